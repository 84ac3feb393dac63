//! The documents a base model is trained on.

use rand::{Rng, RngExt};
use serde::Serialize;

use super::{Author, Settings, Split, Task};

/// Longest document in characters, newlines included: with its BOS token it fills a row of 128.
pub const DOCUMENT_CHARACTERS: usize = 127;
/// A document has one to this many problems.
const PROBLEMS: u32 = 3;

/// One to three problems with the replies of one author, a line each.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Document {
    /// `corpus-00000`, numbered from 0.
    pub id: String,
    /// The lines. Nothing in them says who wrote them.
    pub text: String,
    /// Who wrote them: kept beside the text, so that tests can ask for the known answer.
    pub author: Author,
    /// The task of each line.
    pub tasks: Vec<Task>,
}

/// The corpus of these settings, document by document. Only prompts of the train split occur in it.
pub fn documents(settings: &Settings) -> impl Iterator<Item = Document> {
    (0..settings.documents).map(|index| document(index, settings))
}

fn document(index: u32, settings: &Settings) -> Document {
    let mut random = super::random(settings.seed, u64::from(index));
    let author = if random.random_bool(settings.sloppy) {
        Author::Sloppy
    } else {
        Author::Careful
    };
    let (mut text, mut tasks) = (String::new(), Vec::new());
    for _ in 0..random.random_range(1..=PROBLEMS) {
        let task = Task::ALL[random.random_range(0..Task::ALL.len() as u32) as usize];
        let line = line(task, author, &mut random);
        if text.len() + line.len() > DOCUMENT_CHARACTERS {
            break;
        }
        text.push_str(&line);
        tasks.push(task);
    }
    Document {
        id: format!("corpus-{index:05}"),
        text,
        author,
        tasks,
    }
}

/// A problem of the train split with the author's reply and the newline that ends it.
fn line(task: Task, author: Author, random: &mut impl Rng) -> String {
    let problem = Split::Train.problem(task, random);
    let reply = author.reply(&problem, random);
    format!("{}{reply}\n", problem.prompt)
}
