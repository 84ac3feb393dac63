//! Arguments that several programs share, and the small languages inside their values.

use serde::{Serialize, Serializer};
use std::fmt;
use std::ops::Range;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, Ordering};

/// Flags of every program: `#[command(flatten)] common: cli::Common`, then `args.common.start()?` first in `run`.
///
/// They change no output byte, so they do not belong in a provenance (`#[serde(skip)]`).
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Common {
    /// Say nothing on stderr but errors
    #[arg(short, long, global = true)]
    pub quiet: bool,
    /// Threads to use [default: one per core]
    #[arg(long, global = true, value_name = "N", env = "POSTSCOPE_THREADS", hide_env_values = true, value_parser = parse_threads)]
    pub threads: Option<usize>,
    /// File of settings, a TOML table for each program: what flags and environment leave out is taken from there
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        env = "POSTSCOPE_CONFIG",
        hide_env_values = true
    )]
    pub config: Option<PathBuf>,
    /// Print every setting in effect as such a file, and stop
    #[arg(long, global = true)]
    pub print_config: bool,
}

impl Common {
    /// Sets quietness and the size of the thread pool. The pool of a process is made once: asking later for another
    /// size is an error.
    pub fn start(&self) -> anyhow::Result<()> {
        crate::output::set_quiet(self.quiet);
        let own = IS_PROGRAM.load(Ordering::Relaxed);
        if self.threads.is_none() && !own {
            return Ok(());
        }
        // Zero: as many as rayon takes by itself.
        let pool = |threads| rayon::ThreadPoolBuilder::new().num_threads(threads);
        let wanted = self.threads.unwrap_or(0);
        // One thread alone would wait for itself where another than the program's own asks it for work.
        let one = wanted == 1 || wanted == 0 && !several_by_default();
        let built = if own && !one {
            pool(wanted).use_current_thread().build_global()
        } else {
            pool(wanted).build_global()
        };
        if let Err(cause) = built {
            anyhow::ensure!(
                wanted == 0 || rayon::current_num_threads() == wanted,
                "cannot use {wanted} threads: {cause}"
            );
        }
        Ok(())
    }
}

/// Whether this process is one of the programs: its first thread then takes part in the work. Handing every product over to
/// other threads would cost two changes of threads each time.
static IS_PROGRAM: AtomicBool = AtomicBool::new(false);

/// Says that the calling thread is a program's own.
pub(crate) fn this_is_the_program() {
    IS_PROGRAM.store(true, Ordering::Relaxed);
}

/// Whether rayon takes several threads by itself.
fn several_by_default() -> bool {
    let asked = std::env::var("RAYON_NUM_THREADS").ok();
    match asked.and_then(|n| n.parse::<usize>().ok()) {
        Some(n) if n > 0 => n > 1,
        _ => std::thread::available_parallelism().is_ok_and(|n| n.get() > 1),
    }
}

/// A thread count: at least one.
fn parse_threads(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) => Err("at least one thread is needed".into()),
        Ok(threads) => Ok(threads),
        Err(_) => Err("a whole number of threads is needed".into()),
    }
}

/// A path with the role the user gives it: `base=models/base`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Labelled {
    /// The role, `base`, `sft`, `rl`, …: letters, digits, `.`, `_` and `-` (it becomes the name of a directory).
    pub label: String,
    /// What it names, as given.
    pub path: PathBuf,
}

impl FromStr for Labelled {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (label, path) = text
            .split_once('=')
            .ok_or("expected LABEL=PATH, for example base=models/base")?;
        if !is_label(label) {
            return Err(format!(
                "`{label}` cannot be a label: letters, digits, `.`, `_` and `-` only"
            ));
        }
        if path.is_empty() {
            return Err(format!("no path after `{label}=`"));
        }
        Ok(Self {
            label: label.into(),
            path: path.into(),
        })
    }
}

impl fmt::Display for Labelled {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{}={}", self.label, self.path.display())
    }
}

impl Serialize for Labelled {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Whether a text can name a directory and a column value without surprises.
fn is_label(text: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    !text.is_empty() && !text.starts_with(['.', '-']) && text.chars().all(allowed)
}

/// One of N contiguous pieces of the work: `--shard 2/8` is the third of eight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shard {
    /// Which piece, from 0.
    pub index: usize,
    /// How many pieces there are.
    pub count: usize,
}

impl Shard {
    /// Items of this piece. The pieces are in order, without gap or overlap, and differ in length by at most one.
    pub fn range(&self, n_items: usize) -> Range<usize> {
        let cut = |piece: usize| (n_items as u128 * piece as u128 / self.count as u128) as usize;
        cut(self.index)..cut(self.index + 1)
    }
}

impl Default for Shard {
    fn default() -> Self {
        Self { index: 0, count: 1 }
    }
}

impl FromStr for Shard {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parsed = text
            .split_once('/')
            .and_then(|(index, count)| Some((index.parse().ok()?, count.parse().ok()?)));
        match parsed {
            Some((index, count)) if index < count => Ok(Self { index, count }),
            Some((index, count)) => Err(format!(
                "there is no shard {index} of {count}: they are counted from 0"
            )),
            None => Err("expected I/N, for example 0/4".into()),
        }
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{}/{}", self.index, self.count)
    }
}

impl Serialize for Shard {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Reads a comma list such as `1.5,2,3`. (Flags that may repeat use clap's `value_delimiter = ','` instead.)
pub fn parse_list<T: FromStr>(text: &str) -> Result<Vec<T>, String> {
    let items = text.split(',').map(str::trim);
    items
        .map(|item| {
            item.parse()
                .map_err(|_| format!("`{item}` is not a valid item of `{text}`"))
        })
        .collect()
}

/// Reads a count such as `4096`, `32k`, `5M` or `1.5G` (powers of 1000). For `value_parser = cli::parse_count`.
pub fn parse_count(text: &str) -> Result<u64, String> {
    let wrong = || format!("`{text}` is not a count, such as 4096, 32k, 5M or 1.5G");
    if let Ok(count) = text.parse() {
        return Ok(count);
    }
    let unit = text.chars().last().ok_or_else(wrong)?;
    let scale = match unit.to_ascii_lowercase() {
        'k' => 1e3,
        'm' => 1e6,
        'g' | 'b' => 1e9,
        _ => return Err(wrong()),
    };
    let number: f64 = text[..text.len() - 1].parse().map_err(|_| wrong())?;
    let count = (number * scale).round();
    if (0.0..9e15).contains(&count) {
        Ok(count as u64)
    } else {
        Err(wrong())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_is_split_from_its_path_at_the_first_equals_sign() {
        let model: Labelled = "base=models/a=b".parse().unwrap();
        assert_eq!(model.label, "base");
        assert_eq!(model.path, PathBuf::from("models/a=b"));
        assert_eq!(model.to_string(), "base=models/a=b");
    }

    #[test]
    fn a_label_that_cannot_be_a_directory_is_refused() {
        for text in [
            "models/base",
            "=x",
            "a/b=x",
            "..=x",
            "-q=x",
            "a b=x",
            "base=",
        ] {
            assert!(text.parse::<Labelled>().is_err(), "{text}");
        }
    }

    #[test]
    fn shards_cover_every_item_once() {
        for n_items in [0, 1, 7, 8, 1000] {
            for count in [1, 2, 3, 8, 13] {
                let all: Vec<usize> = (0..count)
                    .flat_map(|index| Shard { index, count }.range(n_items))
                    .collect();
                assert_eq!(all, (0..n_items).collect::<Vec<_>>(), "{n_items}/{count}");
            }
        }
    }

    #[test]
    fn a_shard_outside_its_count_is_refused() {
        assert_eq!("2/8".parse(), Ok(Shard { index: 2, count: 8 }));
        for text in ["8/8", "0/0", "-1/2", "1", "a/b", "1/2/3"] {
            assert!(text.parse::<Shard>().is_err(), "{text}");
        }
    }

    #[test]
    fn lists_and_counts_read_as_people_write_them() {
        assert_eq!(parse_list("1.5, 2,3"), Ok(vec![1.5, 2.0, 3.0]));
        assert!(parse_list::<f64>("1,,2").is_err());
        for (text, count) in [
            ("0", 0),
            ("4096", 4096),
            ("32k", 32_000),
            ("5M", 5_000_000),
            ("1.5G", 1_500_000_000),
        ] {
            assert_eq!(parse_count(text), Ok(count));
        }
        for text in ["", "k", "-1", "-1k", "5MM", "infk", "NaNk", "é"] {
            assert!(parse_count(text).is_err(), "{text}");
        }
    }

    #[test]
    fn no_threads_at_all_is_refused() {
        assert!(parse_threads("0").is_err());
        assert_eq!(parse_threads("3"), Ok(3));
    }
}
