//! A runner that plays the script in its first argument, for tests to name in `[runner] command`.

fn main() {
    axon_test::scripted_runner::main()
}
