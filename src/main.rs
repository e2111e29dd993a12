//! Parse, run one role, exit with its code.

fn main() -> std::process::ExitCode {
    autoreply::cli::main()
}
