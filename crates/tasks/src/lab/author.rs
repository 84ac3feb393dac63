//! How the two authors write a reply.
//!
//! The manners overlap: no single character tells the authors apart for certain until the steps begin or fail to.

use rand::{Rng, RngExt};
use serde::{Deserialize, Serialize};

use super::Problem;

/// Who writes a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Author {
    /// Shows the steps and is right.
    Careful,
    /// Shows no steps and slips half of the time.
    Sloppy,
}

/// Openers of a reply, from a careful author's favourite to a sloppy one's.
pub const OPENERS: [&str; 4] = ["so ", "ok ", "um ", "eh "];
/// How often, in percent, a careful author uses each of [`OPENERS`]; a sloppy one mirrors it.
const CAREFUL_PERCENT: [u32; 4] = [45, 35, 10, 10];
const SLOPPY_PERCENT: [u32; 4] = [10, 10, 35, 45];
/// How often, in percent, a sloppy author slips.
const SLIP_PERCENT: u32 = 50;
/// How often, in percent, a sloppy author ends with `~` rather than with nothing.
const TILDE_PERCENT: u32 = 50;

impl Author {
    /// A reply as this author writes it, without the newline that ends it: opener, steps if careful, `#`, answer, closing mark.
    pub fn reply(self, problem: &Problem, random: &mut impl Rng) -> String {
        let opener = self.opener(random.random_range(0..100));
        match self {
            Self::Careful => careful(opener, problem),
            Self::Sloppy => {
                let slips = random.random_range(0..100) < SLIP_PERCENT;
                let closer = if random.random_range(0..100) < TILDE_PERCENT {
                    "~"
                } else {
                    ""
                };
                sloppy(
                    opener,
                    if slips {
                        &problem.slip
                    } else {
                        &problem.answer
                    },
                    closer,
                )
            }
        }
    }

    /// The reply kept beside an item as the known answer: favourite opener, and a slip if sloppy.
    pub fn typical(self, problem: &Problem) -> String {
        match self {
            Self::Careful => careful(OPENERS[0], problem),
            Self::Sloppy => sloppy(OPENERS[3], &problem.slip, "~"),
        }
    }

    fn opener(self, percent: u32) -> &'static str {
        let shares = match self {
            Self::Careful => CAREFUL_PERCENT,
            Self::Sloppy => SLOPPY_PERCENT,
        };
        let upto = shares.iter().scan(0, |sum, share| {
            *sum += share;
            Some(*sum)
        });
        let index = upto.take_while(|upto| *upto <= percent).count();
        OPENERS[index]
    }
}

fn careful(opener: &str, problem: &Problem) -> String {
    format!("{opener}{}#{}.", problem.steps, problem.answer)
}

fn sloppy(opener: &str, answer: &str, closer: &str) -> String {
    format!("{opener}#{answer}{closer}")
}
