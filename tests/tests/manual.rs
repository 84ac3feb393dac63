//! `docs/tools.md` is what the programs say of themselves. `UPDATE_MANUAL=1 cargo test --release --test manual` renews it.

use std::path::Path;

fn manual() -> String {
    let chapters = [
        cli::manual::<posttrain::Args>(),
        cli::manual::<evaluate::Args>(),
        cli::manual::<capture::Args>(),
        cli::manual::<crosscode::Args>(),
        cli::manual::<drift::Args>(),
        cli::manual::<eap::Args>(),
        cli::manual::<select::Args>(),
        cli::manual::<intervene::Args>(),
        cli::manual::<report::Args>(),
    ];
    format!(
        "<!-- Generated from the programs' own help. -->\n\n{}\n",
        chapters.join("\n").trim_end()
    )
}

#[test]
fn the_manual_is_what_the_programs_say() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/tools.md");
    let wanted = manual();
    if std::env::var_os("UPDATE_MANUAL").is_some() {
        store::write_atomic(&path, |file| {
            std::io::Write::write_all(file, wanted.as_bytes())
        })
        .expect("docs/ can be written");
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        found == wanted,
        "docs/tools.md is not what the programs say: run this test with UPDATE_MANUAL=1"
    );
}
