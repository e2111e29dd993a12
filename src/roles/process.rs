//! What every long-running role does alike: logs, clock, metrics, stream, control socket, stop.

use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::wiring::{Outbound, open_stream};
use super::{Context, admin};
use crate::clock::{Clock, SystemClock};
use crate::contract::codec::Source;
use crate::control::server;
use crate::error::Problem;
use crate::lifecycle::{Supervisor, stop_signal};
use crate::stream::Connection;
use crate::telemetry::{self, Metrics, Traces};

/// How long the parts of a role are given at a stop: a send in flight is followed to its end, half-typed text cleared.
const GRACE: Duration = Duration::from_secs(10);
/// How long the last spans may take to reach the collector at a stop.
const TRACES_GRACE: Duration = Duration::from_secs(2);
/// How long the servers are given at the very end.
const LAST_ANSWERS: Duration = Duration::from_secs(1);

/// A role's process.
pub struct Process {
    /// Its tasks.
    pub supervisor: Supervisor,
    /// Its metrics.
    pub metrics: Arc<Metrics>,
    /// Its clock.
    pub clock: Arc<dyn Clock>,
    /// Its traces.
    pub traces: Traces,
    stop: CancellationToken,
    servers: Servers,
}

/// The servers of metrics, health and the admin API: they answer until the role's last work is done, so that it can be
/// seen from outside that it is stopping, and how far it is.
#[derive(Default)]
struct Servers {
    tasks: JoinSet<()>,
    end: CancellationToken,
}

impl Servers {
    /// Runs `serving`, which ends when the token that it was given does; `supervisor` hears of it if it ends before
    /// anybody asked.
    fn spawn<F>(&mut self, supervisor: &mut Supervisor, name: &'static str, serving: F)
    where
        F: Future<Output = std::io::Result<()>> + Send + 'static,
    {
        let (ended, early) = tokio::sync::oneshot::channel();
        self.tasks.spawn(async move {
            let _nobody_waits = ended.send(serving.await);
        });
        let stop = supervisor.stop_token();
        supervisor.spawn(name, async move {
            tokio::select! {
                biased;
                () = stop.cancelled() => Ok(()),
                served = early => served.unwrap_or(Ok(())),
            }
        });
    }

    /// Lets answers under way go out, and ends.
    async fn finish(mut self) {
        self.end.cancel();
        let all = async { while self.tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(LAST_ANSWERS, all).await.is_err() {
            tracing::debug!("somebody still held a connection for metrics, health or the admin API");
        }
    }
}

impl Process {
    /// Starts logging and listens for the stop.
    ///
    /// # Errors
    /// The `[telemetry]` section does not fit.
    pub fn start(context: &Context, role: &'static str) -> Result<Self, Problem> {
        super::consistency::check(context)?;
        let settings: telemetry::Settings = context.layers.section("telemetry")?;
        settings.check()?;
        telemetry::logs::init(&settings)?;
        let stop = CancellationToken::new();
        let mut supervisor = Supervisor::new(stop.clone());
        let (asked, cancel) = (stop.clone(), stop.clone());
        supervisor.spawn("the signals", async move {
            tokio::select! {
                () = asked.cancelled() => {}
                signal = stop_signal() => {
                    signal?;
                    tracing::info!("asked to stop");
                    cancel.cancel();
                }
            }
            Ok::<(), std::io::Error>(())
        });
        tracing::info!(role, version = env!("CARGO_PKG_VERSION"), "starting");
        let metrics = Arc::new(Metrics::new().with_process());
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let traces = Traces::start(&settings, role, clock.clone(), metrics.clone())?;
        Ok(Self { supervisor, metrics, clock, traces, stop, servers: Servers::default() })
    }

    /// The stream of the settings. What differs of its topics is said in the log.
    ///
    /// # Errors
    /// The `[stream]` section does not fit, or the broker's client does not start.
    pub fn connect(&mut self, context: &Context) -> Result<Connection, Problem> {
        let (connection, _) = open_stream(context)?;
        let (looked_at, stop) = (connection.clone(), self.supervisor.stop_token());
        self.supervisor.spawn("the look at the topics", async move {
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                () = super::topics::warn(&looked_at) => {}
            }
            stop.cancelled().await;
            Ok::<(), std::convert::Infallible>(())
        });
        Ok(connection)
    }

    /// The same for a role that needs a broker which others reach too.
    ///
    /// # Errors
    /// As for [`Self::connect`], and the settings name the embedded broker: it lives in one process.
    pub fn connect_with_others(&mut self, context: &Context) -> Result<Connection, Problem> {
        if context.layers.section::<crate::stream::Settings>("stream")?.is_embedded() {
            return Err(Problem::new(
                "half of autoreply by itself needs a broker that the other half reaches, and the embedded one lives in one process",
                "stream.brokers",
                "Set it to your Kafka's addresses, or use `autoreply run` on a single machine",
            ));
        }
        self.connect(context)
    }

    /// A writer of this role's records.
    pub fn outbound(&self, connection: &Connection, source: Source) -> Outbound {
        Outbound::new(connection, source, self.clock.clone())
    }

    /// The parts that every role has, for its admin API.
    pub fn admin_parts(&self, role: &'static str) -> admin::Parts {
        admin::Parts::new(role, self.metrics.clone(), self.clock.clone(), self.stop.clone())
    }

    /// Puts the admin API on its socket, and metrics and health on TCP where the settings say so. From here on the
    /// process's own gauges are kept true.
    ///
    /// # Errors
    /// The socket or the address is taken.
    pub async fn serve(&mut self, context: &Context, parts: admin::Parts) -> Result<(), Problem> {
        let settings: crate::control::Settings = context.layers.section("control")?;
        let path = context.socket_path()?;
        let admin: Arc<dyn crate::control::Admin> = Arc::new(parts);
        let socket = server::Socket::bind(&path).await?;
        tracing::info!(socket = %path.display(), "the command line reaches this process here");
        let (on_socket, left, end) = (admin.clone(), path.clone(), self.servers.end.clone());
        self.servers.spawn(&mut self.supervisor, "the control socket", async move {
            let served = server::serve_socket(socket, on_socket, end).await;
            let _gone = std::fs::remove_file(left);
            served
        });
        let own = super::own::tell(
            admin.clone(),
            context.data_dir().ok(),
            self.metrics.clone(),
            self.supervisor.stop_token(),
        );
        self.supervisor.spawn("this process's figures", own);
        if !settings.listen.is_empty() {
            let listener = tokio::net::TcpListener::bind(&settings.listen).await.map_err(|error| {
                Problem::new(
                    format!("it cannot be listened to ({error})"),
                    format!("control.listen {}", settings.listen),
                    "Choose a free address",
                )
            })?;
            let serving = server::serve_tcp(listener, admin, self.servers.end.clone());
            self.servers.spawn(&mut self.supervisor, "metrics and health", serving);
        }
        Ok(())
    }

    /// Runs until it is asked to stop, or until a part dies; then does the role's `last` work, hands the last spans to the
    /// collector, and stops answering.
    ///
    /// # Errors
    /// The part that died.
    pub async fn run(self, last: impl Future<Output = ()>) -> Result<(), Problem> {
        let ended = self.supervisor.run(GRACE).await;
        self.stop.cancel();
        last.await;
        self.traces.finish(TRACES_GRACE).await;
        self.servers.finish().await;
        tracing::info!("stopped");
        ended.map_err(|died| {
            Problem::new(died.to_string(), "autoreply", "See the log above; `autoreply doctor` says what is missing")
        })
    }
}

/// Makes a directory that only its owner may read.
///
/// # Errors
/// It cannot be made.
pub fn private_directory(path: &Path) -> Result<(), Problem> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(|error| {
        Problem::new(
            format!("the directory cannot be made ({error})"),
            path.display().to_string(),
            "Make it, or name another one in the settings",
        )
    })
}
