//! A model server that behaves as a script says; see `autoreply_load_tests::model`.

use std::io::{Read as _, Write as _};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use autoreply_load_tests::model::{Script, Stub, raise_file_limit};
use clap::Parser;

#[derive(Parser)]
#[command(
    about = "A model server that behaves as a script says. Prints its address as a line of JSON once it listens."
)]
struct Arguments {
    /// Where to listen; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// The script, as TOML or JSON.
    #[arg(long, conflicts_with = "latency_ms")]
    script: Option<PathBuf>,
    /// Without a script: every answer is good and takes this long.
    #[arg(long, default_value_t = 0)]
    latency_ms: u64,
    /// End when standard input does, as it does when the parent ends.
    #[arg(long)]
    end_with_stdin: bool,
}

// One thread: it must leave the processors to what is measured.
#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match run(Arguments::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            let _ = writeln!(std::io::stderr(), "model-stub: {why}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: Arguments) -> Result<(), String> {
    raise_file_limit();
    let script = match &arguments.script {
        None => Script::answering_after(arguments.latency_ms),
        Some(path) => {
            let text = std::fs::read_to_string(path)
                .map_err(|error| format!("the script {} cannot be read: {error}", path.display()))?;
            Script::parse(&text)?
        }
    };
    let stub = Stub::listen(arguments.listen, script)
        .await
        .map_err(|error| format!("{} cannot be listened on: {error}", arguments.listen))?;
    writeln!(std::io::stdout(), "{}", serde_json::json!({ "address": stub.address }))
        .map_err(|error| format!("the address cannot be told: {error}"))?;
    if arguments.end_with_stdin {
        std::thread::spawn(|| {
            let mut rest = Vec::new();
            let _ = std::io::stdin().read_to_end(&mut rest);
            std::process::exit(0);
        });
    }
    stub.serve().await;
    Ok(())
}
