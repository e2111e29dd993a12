use std::os::unix::fs::PermissionsExt as _;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

use super::client::Client;
use super::*;
use crate::contract::{Control, ConversationId, JournalId, Scope};

#[derive(Default)]
struct Scripted(Mutex<Vec<ControlInForce>>);

#[async_trait]
impl Admin for Scripted {
    async fn sagas(&self, all: bool) -> Result<Vec<SagaSummary>, AdminError> {
        if all { Err(AdminError::Unavailable("the ledger does not answer".into())) } else { Ok(Vec::new()) }
    }
    async fn saga(&self, turn: TurnId) -> Result<SagaStory, AdminError> {
        Err(AdminError::NotFound(format!("there is no reply {turn}")))
    }
    async fn approve(&self, _turn: TurnId, decision: Decision) -> Result<(), AdminError> {
        if decision.by == "me" { Ok(()) } else { Err(AdminError::Conflict("it was already answered".into())) }
    }
    async fn reject(&self, _turn: TurnId, _rejection: Rejection) -> Result<(), AdminError> {
        Ok(())
    }
    async fn desks(&self) -> Result<Vec<DeskView>, AdminError> {
        let account = OwnedAccountView { account: "hexchat irc/me".into(), token: 2, lapsed: false };
        let (desktop, journal, state) = ("desk".into(), "j".into(), "fresh".into());
        let (host, version, last_seen) = ("office".into(), "0.2.0".into(), None);
        Ok(vec![DeskView { desktop, journal, host, version, last_seen, state, accounts: vec![account] }])
    }
    async fn controls(&self) -> Result<Vec<ControlInForce>, AdminError> {
        Ok(self.0.lock().unwrap().clone())
    }
    async fn set_control(&self, request: ControlRequest) -> Result<ControlRecord, AdminError> {
        let ControlRequest { scope, control, by, why } = request;
        let record = ControlRecord { scope, control, version: 1, by, why, at: jiff::Timestamp::UNIX_EPOCH };
        let (scope, standing) = (record.scope.clone(), "stopped".to_owned());
        let (by, why) = (record.by.clone(), record.why.clone());
        self.0.lock().unwrap().push(ControlInForce { scope, standing, version: 1, by, why });
        Ok(record)
    }
    async fn forget(&self, peer: &str) -> Result<u64, AdminError> {
        Ok(u64::from(peer == "alice"))
    }
    async fn health(&self) -> Health {
        Health { role: "test".into(), parts: vec![Part { name: "ledger".into(), ready: false, detail: "gone".into() }] }
    }
    fn metrics(&self) -> String {
        "up 1\n".into()
    }
}

#[tokio::test]
async fn the_client_asks_and_the_socket_is_for_its_owner() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("autoreply.sock");
    let stop = CancellationToken::new();
    let socket = server::Socket::bind(&path).await.unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let taken = server::Socket::bind(&path).await.unwrap_err().to_string();
    assert!(taken.contains("another autoreply is running"), "{taken}");

    let ask = async {
        let client = Client::new(&path);
        let turn = TurnId::derive(JournalId::draw(), ConversationId::derive("n", "a", "p"), 1);
        assert_eq!(client.sagas(false).await.unwrap(), []);
        assert!(client.sagas(true).await.unwrap_err().to_string().contains("the ledger does not answer"));
        assert!(client.saga(turn).await.unwrap_err().to_string().contains("there is no reply"));
        let yes = |by: &str| Decision { by: by.into(), draft_version: None };
        client.approve(turn, &yes("me")).await.unwrap();
        assert!(client.approve(turn, &yes("you")).await.unwrap_err().what.contains("already answered"));
        let request =
            ControlRequest { scope: Scope::All, control: Control::Stop, by: "me".into(), why: "lunch".into() };
        assert_eq!(client.set_control(&request).await.unwrap().control, Control::Stop);
        assert_eq!(client.controls().await.unwrap().len(), 1);
        assert_eq!((client.forget("alice").await, client.forget("bob").await), (Ok(1), Ok(0)));
        assert!(!client.health().await.unwrap().ready());
        assert_eq!(client.metrics().await.unwrap(), "up 1\n");
        stop.cancel();
    };
    let (served, ()) = tokio::join!(server::serve_socket(socket, Arc::new(Scripted::default()), stop.clone()), ask);
    served.unwrap();

    let nobody = Client::new(&directory.path().join("nothing.sock")).sagas(false).await.unwrap_err().to_string();
    assert!(nobody.contains("autoreply run"), "{nobody}");
    // What a dead process left behind is taken over.
    server::Socket::bind(&path).await.unwrap();
}
