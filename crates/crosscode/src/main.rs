//! Entry point; everything is in `lib.rs`.
fn main() -> std::process::ExitCode {
    cli::main(crosscode::run)
}
