//! Pickle read as data: a stack machine that builds values and calls nothing.
//!
//! A pickle is a program, and Python runs what it names. Here only the instructions that hold numbers, texts, lists and
//! dictionaries are known, and a name (`GLOBAL`) must be one of the few that stand for a tensor; everything else ends the
//! reading with the name in the message. Values refer to each other by number, so a shared one is never copied.
//!
//! # Layout
//! - this file: what a pickle can hold, and the names it may use
//! - `machine`: the instructions; `input`: bytes, numbers and texts

mod input;
mod machine;

use machine::Machine;

/// A failure in words; the caller knows the file.
pub(super) type Result<T> = std::result::Result<T, String>;

/// Number of a value.
pub(super) type Id = usize;

/// What a pickle can hold here.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    None,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(String),
    Tuple(Vec<Id>),
    List(Vec<Id>),
    Dict(Vec<(Id, Id)>),
    Name(Name),
    Storage(Storage),
    Tensor(Tensor),
}

/// The names a pickle may use: nothing is called, each stands for the shape of what follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Name {
    /// `collections.OrderedDict`.
    OrderedDict,
    /// `torch._utils._rebuild_tensor_v2`.
    Tensor,
    /// `torch._utils._rebuild_parameter`.
    Parameter,
    /// `torch.Size`.
    Size,
    /// `torch.FloatStorage` and its kin.
    Storage(Scalar),
}

/// Format of the numbers of a storage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scalar {
    F64,
    F32,
    F16,
    Bf16,
    I64,
    I32,
    I16,
    I8,
    U8,
    Bool,
}

/// A run of numbers kept beside the pickle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Storage {
    pub(super) scalar: Scalar,
    /// Its name in the archive.
    pub(super) key: String,
    /// Numbers in it.
    pub(super) n: usize,
}

/// A view of a storage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Tensor {
    pub(super) storage: Storage,
    /// First number.
    pub(super) offset: usize,
    pub(super) shape: Vec<usize>,
    /// Numbers from one index to the next, per dimension.
    pub(super) strides: Vec<usize>,
}

impl Scalar {
    /// Bytes of one number.
    pub(super) fn size(self) -> usize {
        match self {
            Self::F64 | Self::I64 => 8,
            Self::F32 | Self::I32 => 4,
            Self::F16 | Self::Bf16 | Self::I16 => 2,
            Self::I8 | Self::U8 | Self::Bool => 1,
        }
    }

    fn of_storage(class: &str) -> Option<Self> {
        Some(match class {
            "DoubleStorage" => Self::F64,
            "FloatStorage" => Self::F32,
            "HalfStorage" => Self::F16,
            "BFloat16Storage" => Self::Bf16,
            "LongStorage" => Self::I64,
            "IntStorage" => Self::I32,
            "ShortStorage" => Self::I16,
            "CharStorage" => Self::I8,
            "ByteStorage" => Self::U8,
            "BoolStorage" => Self::Bool,
            _ => return None,
        })
    }
}

impl Name {
    fn of(module: &str, name: &str) -> Result<Self> {
        match (module, name) {
            ("collections", "OrderedDict") => Ok(Self::OrderedDict),
            ("torch._utils", "_rebuild_tensor_v2") => Ok(Self::Tensor),
            ("torch._utils", "_rebuild_parameter") => Ok(Self::Parameter),
            ("torch", "Size") => Ok(Self::Size),
            ("torch", class) if Scalar::of_storage(class).is_some() => Ok(Self::Storage(
                Scalar::of_storage(class).expect("this arm asked for it"),
            )),
            _ => Err(format!(
                "its pickle names `{}.{}`, which is neither a tensor nor a plain value: nothing was run",
                shown(module),
                shown(name)
            )),
        }
    }
}

/// A name as it can be printed on one line.
fn shown(text: &str) -> String {
    text.chars().take(60).flat_map(char::escape_debug).collect()
}

/// A pickle taken apart.
#[derive(Debug)]
pub(super) struct Pickle {
    values: Vec<Value>,
    root: Id,
    /// Bytes it took.
    pub(super) length: usize,
}

impl Pickle {
    /// Reads one pickle from the beginning of `bytes`.
    pub(super) fn read(bytes: &[u8]) -> Result<Self> {
        Machine::new(bytes).run()
    }

    /// The value of a number.
    pub(super) fn value(&self, id: Id) -> &Value {
        &self.values[id]
    }

    /// All values, in the order they were met.
    pub(super) fn values(&self) -> &[Value] {
        &self.values
    }

    /// What the whole pickle is.
    pub(super) fn root(&self) -> &Value {
        self.value(self.root)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(bytes: &[u8]) -> String {
        Pickle::read(bytes).unwrap_err()
    }

    #[test]
    fn a_call_is_refused_by_its_name_in_every_spelling() {
        // os.system("true") as protocols 0 and 4 write it, and a builtin that reads files.
        let old = refused(b"cposix\nsystem\n(X\x04\x00\x00\x00truetR.");
        assert!(
            old.contains("`posix.system`") && old.contains("nothing was run"),
            "{old}"
        );
        let new = refused(b"\x80\x04\x8c\x05posix\x8c\x06system\x93\x8c\x04true\x85R.");
        assert!(new.contains("`posix.system`"), "{new}");
        assert!(refused(b"cbuiltins\neval\n.").contains("`builtins.eval`"));
        assert!(refused(b"ctorch.storage\n_load_from_bytes\n.").contains("_load_from_bytes"));
        // INST and OBJ, which call as well.
        assert!(refused(b"(X\x04\x00\x00\x00trueiposix\nsystem\n.").contains("0x69"));
        assert!(refused(b"(X\x04\x00\x00\x00trueo.").contains("0x6f"));
    }

    #[test]
    fn a_name_cannot_break_the_line_of_the_message() {
        let message = refused(b"\x80\x04\x8c\x03a\nb\x8c\x01c\x93.");
        assert!(
            message.contains("`a\\nb.c`") && !message.contains('\n'),
            "{message}"
        );
    }

    #[test]
    fn a_shared_value_is_one_value() {
        // [d, d] with d filled after it was stored in the memo.
        let pickle = Pickle::read(b"(}q\x00X\x01\x00\x00\x00aK\x07sh\x00l.").unwrap();
        let Value::List(items) = pickle.root() else {
            panic!("{:?}", pickle.root())
        };
        assert_eq!(items[0], items[1]);
        assert!(matches!(pickle.value(items[1]), Value::Dict(entries) if entries.len() == 1));
    }

    #[test]
    fn numbers_are_read_in_all_lengths() {
        for (bytes, wanted) in [
            (&b"J\xff\xff\xff\xff."[..], Value::Int(-1)),
            (b"M\x00\x01.", Value::Int(256)),
            (b"\x8a\x02\x00\x80.", Value::Int(-32768)),
            (b"\x8a\x00.", Value::Int(0)),
            (b"L12L\n.", Value::Int(12)),
            (b"I01\n.", Value::Bool(true)),
            (b"G\x3f\xe0\x00\x00\x00\x00\x00\x00.", Value::Float(0.5)),
        ] {
            assert_eq!(Pickle::read(bytes).unwrap().root(), &wanted);
        }
    }

    #[test]
    fn a_broken_pickle_is_an_error_and_not_a_panic() {
        let whole = b"\x80\x02}q\x00(X\x01\x00\x00\x00aK\x01K\x02\x86u.";
        assert!(Pickle::read(whole).is_ok());
        for end in 0..whole.len() {
            assert!(Pickle::read(&whole[..end]).is_err(), "{end}");
        }
        for bytes in [
            &b"a."[..],
            b"t.",
            b"K\x01(0.",
            b"h\x07.",
            b"R.",
            b"))R.",
            b"}K\x01K\x02Ru.",
            b"b.",
            b"]q\x00]s.",
        ] {
            assert!(Pickle::read(bytes).is_err(), "{bytes:?}");
        }
    }
}
