//! Files that torch itself wrote (`tests/golden/make_torch.py`): what they hold, and what of them is refused.

use super::super::pickle::Pickle;
use super::*;
use proptest::prelude::*;

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden/torch")
        .join(name)
}

fn refused(name: &str) -> String {
    let message = TorchFile::open(&golden(name)).unwrap_err().to_string();
    assert!(
        message.contains(name) && message.lines().count() == 1,
        "{message}"
    );
    message
}

/// The tensors of the script, whichever way they were stored.
fn check_views(file: &TorchFile) {
    let whole: Vec<f32> = (0..24).map(|value| value as f32).collect();
    assert_eq!(file.shape("whole").unwrap(), [2, 3, 4]);
    assert_eq!(file.f32("whole").unwrap(), whole);
    assert_eq!(file.shape("transposed").unwrap(), [4, 6]);
    assert_eq!(
        file.f32("transposed").unwrap()[..7],
        [0.0, 4.0, 8.0, 12.0, 16.0, 20.0, 1.0]
    );
    assert_eq!(file.f32("part").unwrap(), [5.0, 6.0, 13.0, 14.0]);
    assert_eq!(file.shape("scalar").unwrap(), [0; 0]);
    assert_eq!(file.f32("scalar").unwrap(), [2.5]);
    assert_eq!(file.f32("empty").unwrap(), [0.0; 0]);
    assert_eq!(file.f32("half").unwrap(), [1.5, -2.0]);
    assert_eq!(file.f32("bfloat").unwrap(), [1.5, -3.0]);
    assert_eq!(file.i64("flags").unwrap(), [1, 0]);
    assert_eq!(file.i64("small").unwrap(), [-1, 2]);
    assert_eq!(file.i64("wide").unwrap(), [-(1 << 40), 7]);
    assert_eq!(file.f32("parameter").unwrap(), [0.25]);
    let message = file.i64("half").unwrap_err().to_string();
    assert!(
        message.contains("`half` must hold whole numbers"),
        "{message}"
    );
}

#[test]
fn every_view_and_number_format_is_read_from_both_kinds_of_file() {
    check_views(&TorchFile::open(&golden("views.pt")).unwrap());
    check_views(&TorchFile::open(&golden("stream.pt")).unwrap());
}

#[test]
fn a_state_dict_under_one_key_is_the_state_dict() {
    let file = TorchFile::open(&golden("wrapped.pt")).unwrap();
    check_views(&file);
    assert_eq!(file.plain()["version"], json!("1"));
}

#[test]
fn a_file_that_is_one_tensor_is_read() {
    assert_eq!(
        read_numbers(&golden("numbers.pt")).unwrap(),
        [0, 1, 2, 3, 4]
    );
    let message = read_numbers(&golden("views.pt")).unwrap_err().to_string();
    assert!(message.contains("there is no tensor ``"), "{message}");
}

#[test]
fn a_command_in_a_pickle_is_refused_by_name_and_not_run() {
    for name in ["runs.pt", "runs_protocol_4.pt"] {
        let message = refused(name);
        assert!(
            message.contains("`posix.system`") && message.contains("nothing was run"),
            "{message}"
        );
    }
    assert!(!Path::new("it-ran").exists());
    assert!(refused("class.pt").contains("`torch.optim.adam.Adam`"));
}

/// Opens bytes as a file and reads all it holds; whether that went well.
fn readable(directory: &Path, bytes: &[u8]) -> bool {
    let path = directory.join("cut.pt");
    std::fs::write(&path, bytes).unwrap();
    let Ok(file) = TorchFile::open(&path) else {
        return false;
    };
    file.names().iter().all(|name| file.f32(name).is_ok())
}

#[test]
fn a_truncated_file_is_an_error_wherever_it_ends() {
    let directory = tempfile::tempdir().unwrap();
    for name in ["views.pt", "stream.pt"] {
        let bytes = std::fs::read(golden(name)).unwrap();
        assert!(readable(directory.path(), &bytes), "{name}");
        for end in (0..bytes.len()).step_by(7) {
            assert!(
                !readable(directory.path(), &bytes[..end]),
                "{name} cut at {end}"
            );
        }
    }
}

#[test]
fn a_tensor_that_reaches_beyond_its_storage_is_refused() {
    let storage = super::super::pickle::Storage {
        scalar: Scalar::F32,
        key: "0".into(),
        n: 6,
    };
    let view = |offset, shape: &[usize], strides: &[usize]| Tensor {
        storage: storage.clone(),
        offset,
        shape: shape.to_vec(),
        strides: strides.to_vec(),
    };
    assert_eq!(span(&view(0, &[2, 3], &[3, 1])), Some(6));
    assert_eq!(span(&view(1, &[2, 3], &[3, 1])), None);
    assert_eq!(span(&view(0, &[2, 3], &[4, 1])), None);
    assert_eq!(span(&view(0, &[usize::MAX, 3], &[0, 1])), None);
    assert_eq!(
        span(&view(0, &[7], &[0])),
        None,
        "one number may not become many"
    );
    assert_eq!(span(&view(0, &[2], &[usize::MAX])), None);
    assert_eq!(span(&view(5, &[], &[])), Some(1));
    assert_eq!(span(&view(6, &[], &[])), None);
    assert_eq!(span(&view(0, &[2, 3], &[1])), None);
}

proptest! {
    /// Whatever stands in a pickle, reading it ends, and ends without a panic.
    #[test]
    fn any_bytes_end_in_a_value_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = Pickle::read(&bytes);
    }

    #[test]
    fn a_damaged_stream_ends_in_a_value_or_an_error(place in 15usize..1600, byte in any::<u8>()) {
        let directory = tempfile::tempdir().unwrap();
        let mut bytes = std::fs::read(golden("stream.pt")).unwrap();
        bytes[place] = byte;
        readable(directory.path(), &bytes);
    }
}
