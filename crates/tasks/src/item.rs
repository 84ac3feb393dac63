//! One question with its answer, as a line of a `.jsonl` file.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::{Error, Grader, Result};

/// One question with its answer. Keys that are not listed here are ignored when a file is read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Item {
    /// Identifier within the task.
    pub id: String,
    /// Task the item belongs to.
    pub task: String,
    /// What the user asks; the model's chat template is put around it.
    pub prompt: String,
    /// The expected answer.
    pub target: String,
    /// How an answer is read and compared.
    pub grader: Grader,
    /// The demonstration that supervised fine-tuning imitates; present only where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub solution: Option<String>,
    /// What a careful author writes (always right), where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub careful: Option<String>,
    /// What a sloppy author writes when it slips (always wrong), where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sloppy: Option<String>,
}

/// Reads the items of one `.jsonl` file, in order. Empty lines are passed over, an empty file is an error.
pub fn read_items(path: &Path) -> Result<Vec<Item>> {
    let file = File::open(path).map_err(Error::read(path))?;
    read_items_from(file, path)
}

/// [`read_items`] from what is open already, such as stdin; `path` is what errors call it.
pub fn read_items_from(source: impl Read, path: &Path) -> Result<Vec<Item>> {
    let mut items = Vec::new();
    for (number, line) in (1..).zip(BufReader::new(source).lines()) {
        let line = line.map_err(Error::read(path))?;
        if !line.trim().is_empty() {
            items.push(parse(&line).map_err(|source| Error::Line {
                path: path.to_owned(),
                line: number,
                source,
            })?);
        }
    }
    if items.is_empty() {
        return Err(Error::Empty {
            path: path.to_owned(),
        });
    }
    Ok(items)
}

fn parse(line: &str) -> serde_json::Result<Item> {
    serde_json::from_str(line)
}

/// Writes items, one line each.
pub fn write_items(to: &mut impl Write, items: &[Item]) -> io::Result<()> {
    for item in items {
        serde_json::to_writer(&mut *to, item)?;
        to.write_all(b"\n")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::error::Error as _;

    fn item() -> Item {
        Item {
            id: "test-0000".into(),
            task: "arith".into(),
            prompt: "add 59+63?".into(),
            target: "122".into(),
            grader: Grader::Lab,
            solution: None,
            careful: Some("so 9+3=12,5+6+1=12#122.".into()),
            sloppy: None,
        }
    }

    fn read(text: &str) -> Result<Vec<Item>> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        read_items(file.path())
    }

    #[test]
    fn what_is_written_is_read_back() {
        let mut bytes = Vec::new();
        write_items(&mut bytes, &[item(), item()]).unwrap();
        assert_eq!(
            read(&String::from_utf8(bytes).unwrap()).unwrap(),
            [item(), item()]
        );
    }

    #[test]
    fn unknown_keys_and_empty_lines_are_passed_over() {
        let line =
            r#"{"id":"1","task":"t","prompt":"p","target":"x","grader":"lab","source":"mine"}"#;
        assert_eq!(read(&format!("\n{line}\n\n")).unwrap().len(), 1);
    }

    #[test]
    fn errors_name_the_file_and_the_line() {
        let error = read("\n{\"id\":\"1\"}\n").unwrap_err();
        let cause = error.source().map(ToString::to_string).unwrap_or_default();
        assert!(error.to_string().ends_with("line 2"), "{error}");
        assert!(cause.contains("missing field"), "{cause}");
        assert!(read("").unwrap_err().to_string().contains("no item"));
        let message = read_items(Path::new("absent.jsonl"))
            .unwrap_err()
            .to_string();
        assert!(message == "cannot read absent.jsonl", "{message}");
    }
}
