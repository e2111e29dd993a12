//! Who is asked for a status: the ledger, the brokers, the process on this machine. Each is bounded in time and stands
//! alone: what one misses does not hide what the others say.

use std::future::Future;
use std::time::Duration;

use tokio::time::Instant;

#[cfg(feature = "worker")]
use super::ledger::{Book, Page};
use super::verdict;
use super::view::{Asked, GroupView, Hurt, LagView, MemberView, PersonView, Status};
use crate::clock::{Clock as _, SystemClock, elapsed, from_millis};
use crate::contract::wire::topic;
use crate::control::Health;
use crate::control::client::Client;
use crate::error::Problem;
use crate::roles::Context;
use crate::roles::wiring::{open_stream, stream_problem};
use crate::stream::{self, Connection, GroupStanding, Letters, Lookout};

/// How long each may take.
const LIMIT: Duration = Duration::from_secs(5);
/// How long a count of dead letters is good enough: for each, all of them are read.
const LETTERS_EVERY: Duration = Duration::from_secs(15);
/// The topics that the workers' group reads.
const CONSUMED: [&str; 3] = [topic::MESSAGES, topic::OUTCOMES, topic::DESKTOPS];

/// A real Kafka to look at.
pub(in crate::roles) struct Brokers {
    /// The way there.
    pub(in crate::roles) connection: Connection,
    /// The place to look from.
    pub(in crate::roles) lookout: Lookout,
    /// Their addresses.
    pub(in crate::roles) addresses: String,
    /// The group of the workers.
    pub(in crate::roles) group: String,
}

impl Brokers {
    /// The brokers of the settings; none where the broker is embedded in another process.
    ///
    /// # Errors
    /// The section does not fit, or the client does not start.
    pub(in crate::roles) fn open(context: &Context) -> Result<Option<Self>, Problem> {
        let settings: stream::Settings = context.layers.section("stream")?;
        if settings.is_embedded() {
            return Ok(None);
        }
        let (connection, settings) = open_stream(context)?;
        let lookout = connection.lookout(&settings.worker_group).map_err(|error| stream_problem(&error))?;
        Ok(Some(Self { connection, lookout, addresses: settings.brokers, group: settings.worker_group }))
    }

    /// How the workers' group stands.
    ///
    /// # Errors
    /// They do not answer.
    pub(in crate::roles) async fn standing(&self) -> Result<GroupStanding, Problem> {
        self.lookout.group(&CONSUMED).await.map_err(|error| stream_problem(&error))
    }

    async fn letters(&self) -> Option<u64> {
        let listed = Letters::new(&self.connection, LIMIT).list(false, usize::MAX).await;
        listed.ok().map(|letters| letters.len() as u64)
    }
}

/// Everybody who is asked. What could not be opened is tried again at the next look.
pub struct Sources {
    context: Context,
    #[cfg(feature = "worker")]
    book: Option<Book>,
    brokers: Option<Brokers>,
    letters: Option<(Instant, Option<u64>)>,
}

/// What was answered: by somebody, by nobody because there is nobody, or not.
type Answer<T> = Result<Option<T>, Problem>;

impl Sources {
    /// Nobody has been asked yet.
    pub fn new(context: &Context) -> Self {
        Self {
            context: context.clone(),
            #[cfg(feature = "worker")]
            book: None,
            brokers: None,
            letters: None,
        }
    }

    /// Asks everybody.
    pub async fn look(&mut self) -> Status {
        let failures = self.open().await;
        let brokers = self.brokers.as_ref();
        let due = self.letters.is_none_or(|(at, _)| at.elapsed() >= LETTERS_EVERY);
        let letters = async {
            match brokers {
                Some(brokers) if due => Some(bounded_count(brokers.letters()).await),
                _ => None,
            }
        };
        let group = async {
            match brokers {
                Some(brokers) => bounded("stream.brokers", brokers.standing()).await.map(Some),
                None => Ok(None),
            }
        };
        #[cfg(feature = "worker")]
        let page = read(self.book.as_ref());
        #[cfg(not(feature = "worker"))]
        let page = std::future::ready(());
        let (page, group, counted, process) = tokio::join!(page, group, letters, process(&self.context));
        if let Some(counted) = counted {
            self.letters = Some((Instant::now(), counted));
        }
        let mut status = self.empty();
        failures.into_iter().for_each(|problem| tell(&mut status, &problem));
        status.person.dead_letters = self.letters.and_then(|(_, counted)| counted);
        #[cfg(feature = "worker")]
        fill(&mut status, page, self.brokers.is_some());
        #[cfg(not(feature = "worker"))]
        let () = page;
        self.fill_group(&mut status, group);
        if let Some((socket, health)) = process {
            status.asked.socket = Some(socket);
            status.process = Some(health);
        }
        let hurts = verdict::judge(&status);
        status.hurts.extend(hurts);
        status.well = status.hurts.is_empty();
        status
    }

    /// Opens what is not open; what does not open.
    async fn open(&mut self) -> Vec<Problem> {
        let mut failures = Vec::new();
        if self.brokers.is_none() {
            match Brokers::open(&self.context) {
                Ok(brokers) => self.brokers = brokers,
                Err(problem) => failures.push(problem),
            }
        }
        #[cfg(feature = "worker")]
        if self.book.is_none() {
            match bounded("the ledger", Book::open(&self.context)).await {
                Ok(book) => self.book = book,
                Err(problem) => failures.push(problem),
            }
        }
        failures
    }

    fn empty(&self) -> Status {
        #[cfg(feature = "worker")]
        let ledger = self.book.as_ref().map(|book| book.place.clone());
        #[cfg(not(feature = "worker"))]
        let ledger = None;
        let brokers = self.brokers.as_ref().map(|brokers| brokers.addresses.clone());
        Status {
            well: false,
            hurts: Vec::new(),
            at: SystemClock.now(),
            asked: Asked { ledger, brokers, socket: None },
            workers: Vec::new(),
            group: None,
            lag: Vec::new(),
            replies: None,
            breakers: Vec::new(),
            desks: Vec::new(),
            quota: None,
            person: PersonView::default(),
            process: None,
        }
    }

    fn fill_group(&self, status: &mut Status, group: Answer<GroupStanding>) {
        let standing = match group {
            Ok(Some(standing)) => standing,
            Ok(None) => return,
            Err(problem) => return tell(status, &problem),
        };
        let now = status.at;
        let view = |topic: stream::TopicStanding| LagView {
            partitions: topic.partitions as u64,
            records: topic.records,
            seconds: match (topic.records, topic.oldest_ms) {
                (0, _) => Some(0.0),
                (_, oldest) => oldest.map(|ms| elapsed(from_millis(ms), now).as_secs_f64()),
            },
            topic: topic.topic,
        };
        status.lag = standing.topics.into_iter().map(view).collect();
        let members = standing.members.into_iter().map(|member| MemberView {
            id: member.id,
            host: member.host,
            partitions: member.partitions,
        });
        let name = self.brokers.as_ref().map_or_else(String::new, |brokers| brokers.group.clone());
        status.group = Some(GroupView { name, state: standing.state, members: members.collect() });
    }

    /// Gives back what was opened.
    pub async fn close(self) {
        #[cfg(feature = "worker")]
        if let Some(book) = &self.book {
            book.close().await;
        }
    }
}

/// Something could not be asked, which hurts.
fn tell(status: &mut Status, problem: &Problem) {
    let what = format!("{}: {}", problem.place, problem.what);
    status.hurts.push(Hurt { what, remedy: problem.remedy.clone() });
}

#[cfg(feature = "worker")]
async fn read(book: Option<&Book>) -> Answer<Page> {
    match book {
        Some(book) => bounded(&book.place, book.read()).await.map(Some),
        None => Ok(None),
    }
}

#[cfg(feature = "worker")]
fn fill(status: &mut Status, page: Answer<Page>, letters_are_read: bool) {
    let page = match page {
        Ok(Some(page)) => page,
        Ok(None) => return,
        Err(problem) => return tell(status, &problem),
    };
    (status.workers, status.desks, status.breakers) = (page.workers, page.desks, page.breakers);
    (status.lag, status.quota, status.replies) = (page.lag, Some(page.quota), Some(page.replies));
    status.person.drafts = Some(page.drafts);
    status.person.needs_attention = Some(page.attention);
    // Those of the embedded broker lie in its process.
    if !letters_are_read {
        status.person.dead_letters = Some(page.dead_letters);
    }
}

/// The process on this machine, if one answers on its socket.
async fn process(context: &Context) -> Option<(String, Health)> {
    let path = context.socket_path().ok().filter(|path| path.exists())?;
    let health = tokio::time::timeout(LIMIT, Client::new(&path).health()).await.ok()?.ok()?;
    Some((path.display().to_string(), health))
}

async fn bounded<T>(place: &str, asked: impl Future<Output = Result<T, Problem>>) -> Result<T, Problem> {
    tokio::time::timeout(LIMIT, asked).await.unwrap_or_else(|_| {
        let what = format!("there was no answer within {} s", LIMIT.as_secs());
        Err(Problem::new(what, place, "See that it is there and reached from here; `autoreply doctor --cluster` looks"))
    })
}

async fn bounded_count(counted: impl Future<Output = Option<u64>>) -> Option<u64> {
    tokio::time::timeout(LIMIT, counted).await.ok().flatten()
}
