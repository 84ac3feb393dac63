//! A change of any column is visible in review: `tests/golden/schema.txt`.

#[test]
fn every_column_is_as_written_down() {
    let golden = include_str!("golden/schema.txt");
    let found = store::schema_text();
    assert!(
        golden == found,
        "the schemas changed; if that is meant, write this to crates/store/tests/golden/schema.txt:\n{found}"
    );
}
