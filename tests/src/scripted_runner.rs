//! A runner that plays the script in its first argument, for tests to name in `[runner] command`.

fn main() -> std::process::ExitCode {
    axon_test::scripted_runner::main()
}
