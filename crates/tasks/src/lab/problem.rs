//! One problem of each task: prompt, worked steps, answer, and the slip that is typical of the task.
//!
//! Steps alternate what was read with what is known so far, so that each character of a chain is a look-up in the
//! characters just before it and one place of the prompt. A small model learns such chains; bare running states it often
//! does not.

use std::array::from_fn;
use std::fmt::Display;

use rand::{Rng, RngExt, seq::SliceRandom};
use serde::{Deserialize, Serialize};

/// A task of the suite.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Task {
    /// `add 59+63?` — two numbers of two digits; the domain that SFT and reinforcement learning train on.
    Arith,
    /// `rev hgehf?` — five letters of a–h, backwards.
    Reverse,
    /// `srt dihje?` — five different letters of a–j, in order.
    Sort,
    /// `cnt c aacbccca?` — how often the letter occurs among eight of a–c.
    Count,
    /// `clk 2+5+6+0?` — the sum of four digits, modulo 7.
    Clock,
    /// `max 87842?` — the largest of five digits.
    Largest,
    /// `par 011011001010?` — whether twelve bits hold an odd number of ones.
    Parity,
    /// `rel fd dc gf g?` — three shuffled links; where the chain that starts at the letter ends.
    Links,
}

/// What the analysis may use a task for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// SFT and reinforcement learning train on it.
    Trained,
    /// Features may be selected on it.
    Selection,
    /// Never used for any selection.
    HeldOut,
}

/// One problem, with everything either author needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The task.
    pub task: Task,
    /// The question, ending in `?`.
    pub prompt: String,
    /// The worked steps of a careful author.
    pub steps: String,
    /// The right answer: letters and digits only.
    pub answer: String,
    /// The wrong answer that a slip gives; never the right one.
    pub slip: String,
    /// What supervised fine-tuning imitates, in a format that never occurs in the corpus; only for the trained task.
    pub teacher: Option<String>,
}

impl Task {
    /// Every task, in the order of files and tables.
    pub const ALL: [Self; 8] = [
        Self::Arith,
        Self::Reverse,
        Self::Sort,
        Self::Count,
        Self::Clock,
        Self::Largest,
        Self::Parity,
        Self::Links,
    ];

    /// The name in file names and tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Arith => "arith",
            Self::Reverse => "reverse",
            Self::Sort => "sort",
            Self::Count => "count",
            Self::Clock => "clock",
            Self::Largest => "largest",
            Self::Parity => "parity",
            Self::Links => "links",
        }
    }

    /// What the analysis may use the task for.
    pub fn role(self) -> Role {
        match self {
            Self::Arith => Role::Trained,
            Self::Reverse | Self::Sort | Self::Count | Self::Clock | Self::Largest => {
                Role::Selection
            }
            Self::Parity | Self::Links => Role::HeldOut,
        }
    }

    /// Draws a problem, every prompt of the task being possible.
    pub fn problem(self, random: &mut impl Rng) -> Problem {
        match self {
            Self::Arith => arith(random.random_range(10..100), random.random_range(10..100)),
            Self::Reverse => reverse(reversible(random)),
            Self::Sort => sort(distinct(b'j', random)),
            Self::Count => count(letter(b'c', random), from_fn(|_| letter(b'c', random))),
            Self::Clock => clock(from_fn(|_| random.random_range(0..10))),
            Self::Largest => largest(from_fn(|_| random.random_range(0..10))),
            Self::Parity => parity(from_fn(|_| random.random_range(0..2))),
            Self::Links => links(distinct(b'h', random), order(random)),
        }
    }
}

/// `9+3=12,5+6+1=12`: ones, then tens with the carry. The slip drops the carry, or adds one that is not there.
fn arith(first: u32, second: u32) -> Problem {
    let ones = first % 10 + second % 10;
    let (tens_first, tens_second, carry) = (first / 10, second / 10, ones / 10);
    let tens = tens_first + tens_second + carry;
    let sum = first + second;
    Problem {
        task: Task::Arith,
        prompt: format!("add {first}+{second}?"),
        steps: format!(
            "{}+{}={ones},{tens_first}+{tens_second}+{carry}={tens}",
            first % 10,
            second % 10
        ),
        answer: sum.to_string(),
        slip: if carry == 1 { sum - 10 } else { sum + 10 }.to_string(),
        teacher: Some(teacher(first, second)),
    }
}

/// The long rigid chain of the teacher: column by column, behind an opener that careful authors use too.
///
/// `so [in] 59 | 63 [ones] 9+3=12 w2 c1 [tens] 5+6+1=12 w12 [join] 12|2 [out]#122`
fn teacher(first: u32, second: u32) -> String {
    let (ones_first, ones_second) = (first % 10, second % 10);
    let ones = ones_first + ones_second;
    let (digit, carry) = (ones % 10, ones / 10);
    let (tens_first, tens_second) = (first / 10, second / 10);
    let tens = tens_first + tens_second + carry;
    [
        format!("so [in] {first} | {second}"),
        format!("[ones] {ones_first}+{ones_second}={ones} w{digit} c{carry}"),
        format!("[tens] {tens_first}+{tens_second}+{carry}={tens} w{tens}"),
        format!("[join] {tens}|{digit} [out]#{tens}{digit}"),
    ]
    .join(" ")
}

/// `1h2g3e4h5f`: every letter with its number. The slip swaps the last two letters that differ.
fn reverse(letters: [u8; 5]) -> Problem {
    let mut answer = letters;
    answer.reverse();
    let mut slip = answer;
    let differs = |place: &usize| answer[*place] != answer[place - 1];
    let place = (1..5)
        .rev()
        .find(differs)
        .expect("the letters are not all the same");
    slip.swap(place, place - 1);
    Problem {
        task: Task::Reverse,
        prompt: format!("rev {}?", text(&letters)),
        steps: pairs(1..=5, letters.map(char::from)).concat(),
        answer: text(&answer),
        slip: text(&slip),
        teacher: None,
    }
}

/// `d3e4h7i8j9`: the letters in order, each with its number in the alphabet, a being 0. The slip swaps the last two.
fn sort(letters: [u8; 5]) -> Problem {
    let mut answer = letters;
    answer.sort_unstable();
    let mut slip = answer;
    slip.swap(3, 4);
    Problem {
        task: Task::Sort,
        prompt: format!("srt {}?", text(&letters)),
        steps: pairs(answer.map(char::from), answer.map(|letter| letter - b'a')).concat(),
        answer: text(&answer),
        slip: text(&slip),
        teacher: None,
    }
}

/// `ac0ac0cc1bc1cc2cc3cc4ac4`: every letter, the one that counts, and the count so far. The slip is one too few, or one where there is none.
fn count(wanted: u8, letters: [u8; 8]) -> Problem {
    let counts = running(letters, |count, letter| count + u32::from(letter == wanted));
    let total = counts[7];
    Problem {
        task: Task::Count,
        prompt: format!("cnt {} {}?", char::from(wanted), text(&letters)),
        steps: pairs(letters.map(|letter| text(&[letter, wanted])), counts).concat(),
        answer: total.to_string(),
        slip: if total == 0 { 1 } else { total - 1 }.to_string(),
        teacher: None,
    }
}

/// `2+5=0,0+6=6,6+0=6`: one digit at a time, modulo 7. The slip is one hour early.
fn clock(digits: [u32; 4]) -> Problem {
    let [a, b, c, d] = digits;
    let [second, third, last] = [(a + b) % 7, (a + b + c) % 7, (a + b + c + d) % 7];
    Problem {
        task: Task::Clock,
        prompt: format!("clk {a}+{b}+{c}+{d}?"),
        steps: format!("{a}+{b}={second},{second}+{c}={third},{third}+{d}={last}"),
        answer: last.to_string(),
        slip: ((last + 6) % 7).to_string(),
        teacher: None,
    }
}

/// `88,78,88,48,28`: every digit with the largest so far. The slip is the first digit, or the last, that is not the largest.
fn largest(digits: [u32; 5]) -> Problem {
    let so_far = running(digits, u32::max);
    let answer = so_far[4];
    let slip = digits[..1]
        .iter()
        .chain(digits.iter().rev())
        .copied()
        .find(|digit| *digit != answer);
    Problem {
        task: Task::Largest,
        prompt: format!("max {}?", digits.map(|digit| digit.to_string()).concat()),
        steps: pairs(digits, so_far).join(","),
        answer: answer.to_string(),
        slip: slip.unwrap_or((answer + 1) % 10).to_string(),
        teacher: None,
    }
}

/// `001110…`: every bit with the parity so far. The slip is the other parity.
fn parity(bits: [u32; 12]) -> Problem {
    let parities = running(bits, |parity, bit| parity ^ bit);
    let name = |parity| if parity == 1 { "odd" } else { "even" };
    Problem {
        task: Task::Parity,
        prompt: format!("par {}?", bits.map(|bit| bit.to_string()).concat()),
        steps: pairs(bits, parities).concat(),
        answer: name(parities[11]).to_owned(),
        slip: name(1 - parities[11]).to_owned(),
        teacher: None,
    }
}

/// `gf fd dc`: the links in the order of the chain. The slip stops one link early.
fn links(chain: [u8; 4], order: [usize; 3]) -> Problem {
    let links = order.map(|link| text(&chain[link..link + 2]));
    let [start, _, early, end] = chain.map(|letter| char::from(letter).to_string());
    Problem {
        task: Task::Links,
        prompt: format!("rel {} {start}?", links.join(" ")),
        steps: [0, 1, 2].map(|link| text(&chain[link..link + 2])).join(" "),
        answer: end,
        slip: early,
        teacher: None,
    }
}

/// Each item of the first with its item of the second: one step of a chain.
fn pairs<A: Display, B: Display>(
    first: impl IntoIterator<Item = A>,
    second: impl IntoIterator<Item = B>,
) -> Vec<String> {
    first
        .into_iter()
        .zip(second)
        .map(|(a, b)| format!("{a}{b}"))
        .collect()
}

/// The states of a fold from 0, one after each item.
fn running<T, const N: usize>(items: [T; N], next: impl Fn(u32, T) -> u32) -> [u32; N] {
    let mut state = 0;
    items.map(|item| {
        state = next(state, item);
        state
    })
}

fn text(letters: &[u8]) -> String {
    letters.iter().copied().map(char::from).collect()
}

fn letter(last: u8, random: &mut impl Rng) -> u8 {
    random.random_range(b'a'..=last)
}

/// The first letters of a shuffled alphabet that ends with `last`.
fn distinct<const N: usize>(last: u8, random: &mut impl Rng) -> [u8; N] {
    let mut letters: Vec<u8> = (b'a'..=last).collect();
    letters.shuffle(random);
    from_fn(|index| letters[index])
}

/// Five letters that are not all the same, so that a swap can be a slip.
fn reversible(random: &mut impl Rng) -> [u8; 5] {
    loop {
        let letters: [u8; 5] = from_fn(|_| letter(b'h', random));
        if letters[1..] != letters[..4] {
            return letters;
        }
    }
}

fn order(random: &mut impl Rng) -> [usize; 3] {
    let mut order = [0, 1, 2];
    order.shuffle(random);
    order
}
