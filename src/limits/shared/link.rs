//! The connection to Redis, which is there or away: who asks is told at once, and a task brings it back.

use std::sync::Arc;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, FromRedisValue, IntoConnectionInfo, RedisError, Script, ScriptInvocation};
use secrecy::{ExposeSecret, SecretString};
use tokio::sync::{Notify, Semaphore, watch};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::contract::ConversationId;
use crate::error::{Class, Classified, Problem};
use crate::limits::{Observer, Settings};
use crate::retry::{self, Schedule};

/// The first wait before a lost Redis is tried again.
const RETRY_INITIAL: Duration = Duration::from_millis(50);

/// Calls on their way at once. Thousands that come in one moment would wait for each other longer than for an answer,
/// and Redis would look as if it were away.
const IN_FLIGHT: usize = 64;

/// Redis did not answer, or is known to be away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("Redis is away")]
pub struct Away;

/// Whether a call may run twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Repeat {
    /// It changes something each time.
    Never,
    /// The second time changes nothing: it is tried once more if the connection was dropped under it.
    Once,
}

/// How one call failed.
enum Failed {
    /// There is no connection.
    Away,
    /// The connection was lost.
    Dropped,
    /// No answer in time, or one that only this call gets.
    Unanswered,
}

/// The connection, counted, so that a late failure does not end its successor.
#[derive(Clone, Default)]
struct State {
    generation: u64,
    connection: Option<MultiplexedConnection>,
}

/// The way to Redis.
pub struct Link {
    client: Client,
    config: AsyncConnectionConfig,
    connect_within: Duration,
    answer_within: Duration,
    prefix: String,
    probe: Script,
    state: watch::Sender<State>,
    turns: Semaphore,
    lost: Notify,
    observer: Arc<dyn Observer>,
}

/// Why a connection could not be made; all of it may pass by itself.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Unreachable(String);

impl Classified for Unreachable {
    fn class(&self) -> Class {
        Class::Transient
    }
}

impl Link {
    /// The way to the Redis of `settings`, without going it.
    ///
    /// # Errors
    /// The address or the certificates cannot be used.
    pub fn new(
        settings: &Settings,
        password: Option<&SecretString>,
        observer: Arc<dyn Observer>,
    ) -> Result<Self, Problem> {
        let answer_within = Duration::from_millis(settings.redis_timeout_ms);
        let connect_within = Duration::from_millis(settings.redis_connect_timeout_ms);
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(connect_within))
            .set_response_timeout(Some(answer_within));
        Ok(Self {
            client: client(settings, password)?,
            config,
            connect_within,
            answer_within,
            prefix: settings.redis_prefix.clone(),
            probe: Script::new(include_str!("rate.lua")),
            state: watch::Sender::default(),
            turns: Semaphore::new(IN_FLIGHT),
            lost: Notify::new(),
            observer,
        })
    }

    /// The key of a conversation. All keys of one lie in the same slot of a Redis Cluster.
    pub fn key(&self, kind: &str, conversation: ConversationId) -> String {
        format!("{}:{kind}:{{{conversation}}}", self.prefix)
    }

    /// Runs a script within the command timeout; away is told without waiting.
    ///
    /// # Errors
    /// Redis is away, or did not answer this call.
    pub async fn call<T: FromRedisValue>(&self, call: &ScriptInvocation<'_>, repeat: Repeat) -> Result<T, Away> {
        let mut answer = self.once(call).await;
        if matches!(answer, Err(Failed::Dropped)) && repeat == Repeat::Once && self.is_back().await {
            answer = self.once(call).await;
        }
        answer.map_err(|_| {
            self.observer.fell_back();
            Away
        })
    }

    /// Waits for a new connection, no longer than for an answer.
    async fn is_back(&self) -> bool {
        let mut state = self.state.subscribe();
        let back = state.wait_for(|state| state.connection.is_some());
        matches!(timeout(self.answer_within, back).await, Ok(Ok(_)))
    }

    async fn once<T: FromRedisValue>(&self, call: &ScriptInvocation<'_>) -> Result<T, Failed> {
        if self.state.borrow().connection.is_none() {
            return Err(Failed::Away);
        }
        // The wait for one's turn is not Redis's time. If it goes away meanwhile, all who wait are told at once.
        let _turn = self.turns.acquire().await.map_err(|_| Failed::Away)?;
        let State { generation, connection } = self.state.borrow().clone();
        let mut connection = connection.ok_or(Failed::Away)?;
        match timeout(self.answer_within, call.invoke_async(&mut connection)).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) if concerns_one_call(&error) => {
                tracing::debug!(%error, "Redis refused a call");
                Err(Failed::Unanswered)
            }
            Ok(Err(error)) => {
                self.lose(generation, &error.to_string());
                Err(if error.is_timeout() { Failed::Unanswered } else { Failed::Dropped })
            }
            Err(_) => {
                self.lose(generation, "no answer in time");
                Err(Failed::Unanswered)
            }
        }
    }

    /// Declares the connection of `generation` lost; told once, whoever notices first.
    fn lose(&self, generation: u64, why: &str) {
        let lost = self.state.send_if_modified(|state| {
            let is_this = state.generation == generation && state.connection.is_some();
            if is_this {
                state.connection = None;
            }
            is_this
        });
        if lost {
            tracing::warn!(why, "Redis is away: every worker keeps its own limits, and nothing is remembered");
            self.observer.shared(false);
            self.lost.notify_one();
        }
    }

    /// Connects, and proves that scripts run and may write.
    async fn connect(&self) -> Result<(), Unreachable> {
        let connection = self.proven().await?;
        self.state.send_modify(|state| {
            *state = State { generation: state.generation + 1, connection: Some(connection) };
        });
        tracing::info!("Redis is there: limits and memory are shared");
        self.observer.shared(true);
        Ok(())
    }

    async fn proven(&self) -> Result<MultiplexedConnection, Unreachable> {
        let unreachable = |error: RedisError| Unreachable(error.to_string());
        let connecting = self.client.get_multiplexed_async_connection_with_config(&self.config);
        let mut connection = timeout(self.connect_within, connecting)
            .await
            .map_err(|_| Unreachable("it did not take a connection in time".to_owned()))?
            .map_err(unreachable)?;
        timeout(self.connect_within, self.probe_call().invoke_async::<u64>(&mut connection))
            .await
            .map_err(|_| Unreachable("it took a connection and did not answer".to_owned()))?
            .map_err(unreachable)?;
        Ok(connection)
    }

    /// A script that reads and writes, and leaves nothing that lasts.
    fn probe_call(&self) -> ScriptInvocation<'_> {
        let mut call = self.probe.prepare_invoke();
        call.key(format!("{}:probe", self.prefix)).arg(1000).arg(1);
        call
    }

    /// The server's version and what may go wrong with its memory, for `autoreply doctor`.
    ///
    /// # Errors
    /// Why it cannot be used.
    pub async fn examine(&self) -> Result<Server, String> {
        let mut connection = self.proven().await.map_err(|error| error.to_string())?;
        let info: String = redis::cmd("INFO")
            .arg("everything")
            .query_async(&mut connection)
            .await
            .map_err(|error| error.to_string())?;
        let field = |name: &str| {
            let line = info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            line.map(|value| value.trim().to_owned()).unwrap_or_default()
        };
        Ok(Server { version: field("redis_version"), eviction: field("maxmemory_policy") })
    }
}

/// What `autoreply doctor` wants to know of a Redis that can be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// Its version.
    pub version: String,
    /// Its `maxmemory-policy`.
    pub eviction: String,
}

/// Whether an error says something about this call's keys, and nothing about Redis.
fn concerns_one_call(error: &RedisError) -> bool {
    error.kind() == redis::ErrorKind::UnexpectedReturnType || matches!(error.code(), Some("WRONGTYPE" | "NOPERM"))
}

fn client(settings: &Settings, password: Option<&SecretString>) -> Result<Client, Problem> {
    let wrong = |error: RedisError| {
        let remedy = "Write redis://host:port or rediss://host:port, with /number for another database";
        Problem::new(format!("it cannot be used ({error})"), "limits.redis_url", remedy)
    };
    let mut info = settings.redis_url.as_str().into_connection_info().map_err(wrong)?;
    if let Some(password) = password {
        let redis = info.redis_settings().clone().set_password(password.expose_secret());
        info = info.set_redis_settings(redis);
    }
    if !settings.is_encrypted() {
        return Client::open(info).map_err(wrong);
    }
    // rustls panics without a provider; a second installation fails and changes nothing.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let root_cert = match settings.redis_ca_file.as_str() {
        "" => None,
        path => Some(std::fs::read(path).map_err(|error| {
            let remedy = "Name a file with the certificate in PEM, or none to trust what this machine trusts";
            Problem::new(format!("it cannot be read ({error})"), format!("limits.redis_ca_file {path}"), remedy)
        })?),
    };
    Client::build_with_tls(info, redis::TlsCertificates { client_tls: None, root_cert }).map_err(wrong)
}

/// Keeps the connection: a look at it now and then, and new ones when it was lost. Run it as long as the worker runs.
pub struct Upkeep {
    link: Arc<Link>,
    every: Duration,
}

impl Upkeep {
    /// The upkeep of `link`, which connects it a first time.
    pub(in crate::limits) async fn begin(link: Arc<Link>, settings: &Settings) -> Self {
        if let Err(error) = link.connect().await {
            tracing::warn!(%error, "Redis is away: every worker keeps its own limits, and nothing is remembered");
            link.observer.shared(false);
        }
        Self { link, every: Duration::from_millis(settings.redis_probe_ms) }
    }

    /// Runs until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        tokio::select! { () = stop.cancelled() => {}, () = self.keep() => {} }
    }

    async fn keep(&self) {
        let again = Schedule { initial: RETRY_INITIAL, max: self.every, give_up_after: None };
        loop {
            if self.link.state.borrow().connection.is_none() {
                let _for_ever = retry::retry(again, || self.link.connect()).await;
            }
            tokio::select! { () = self.link.lost.notified() => {}, () = tokio::time::sleep(self.every) => {} }
            // So that the one who finds a dead connection is this task, and not a turn.
            let _noted = self.link.once::<u64>(&self.link.probe_call()).await;
        }
    }
}
