//! The keyboard of a simulated desk: types into the fake application what the real executor wants typed.

use std::time::{Duration, Instant};

use autoreply::error::Problem;
use autoreply::execution::machine::{Keys, Look, Proof, Typed};
use autoreply::execution::ports::Desk;
use autoreply::journal::SendOrder;

use super::application::Application;

/// Longest time between two pieces of text that are typed.
const STROKE: Duration = Duration::from_millis(10);

/// The hands of one desk.
pub struct Hands {
    application: Application,
    typing: Duration,
    peer: String,
    text: String,
    /// When the person was last seen idle.
    idle_since: Instant,
    /// When the last proof began.
    proven: Instant,
}

impl Hands {
    /// Hands that need `typing` for a reply.
    pub fn new(application: Application, typing: Duration) -> Self {
        let now = Instant::now();
        Self { application, typing, peer: String::new(), text: String::new(), idle_since: now, proven: now }
    }

    /// Types `text` in pieces; whether nobody interrupted.
    fn type_pieces(&mut self, stop: &dyn Fn() -> bool) -> std::io::Result<bool> {
        let pieces = (self.typing.as_millis() / STROKE.as_millis()).max(1) as usize;
        let letters: Vec<char> = self.text.chars().collect();
        let each = letters.len().div_ceil(pieces).max(1);
        let mut typed = String::new();
        for piece in letters.chunks(each) {
            if stop() || self.person() {
                return Ok(false);
            }
            typed.extend(piece);
            self.application.set_input(&self.peer, &typed)?;
            if !self.typing.is_zero() {
                std::thread::sleep(self.typing / pieces as u32);
            }
        }
        Ok(true)
    }
}

impl Desk for Hands {
    fn take_up(&mut self, order: &SendOrder) -> Result<String, String> {
        self.peer.clone_from(&order.conversation.peer);
        self.text.clone_from(&order.send.text);
        Ok(self.text.clone())
    }

    fn look(&mut self, prove: bool) -> Look {
        if prove {
            self.proven = Instant::now();
        }
        let front = self.application.is_in_front(&self.peer);
        let proof = if self.application.is_there(&self.peer) { Proof::Right } else { Proof::Absent };
        Look { proof, active: front, focused: front, free: true, text: Some(self.application.input(&self.peer)) }
    }

    fn try_grab(&mut self) -> bool {
        true
    }

    fn keys(&mut self) -> Keys {
        Keys::Up
    }

    fn idle(&mut self) -> bool {
        self.idle_since = Instant::now();
        true
    }

    fn person(&mut self) -> bool {
        self.application.person().is_some_and(|at| at > self.idle_since)
    }

    fn activate(&mut self) -> bool {
        self.application.bring_to_front(&self.peer)
    }

    fn focus(&mut self) -> bool {
        self.application.is_in_front(&self.peer)
    }

    fn type_text(&mut self, stop: &dyn Fn() -> bool) -> Typed {
        match self.type_pieces(stop) {
            Ok(true) => Typed::Complete,
            Ok(false) => Typed::Interrupted,
            Err(_) => Typed::Failed,
        }
    }

    fn pane_digest(&mut self) -> Option<u64> {
        self.application.digest(&self.peer)
    }

    fn press_enter(&mut self) -> Result<Duration, String> {
        let gap = self.proven.elapsed();
        self.application.enter(&self.peer).map(|()| gap).map_err(|error| error.to_string())
    }

    fn clear(&mut self) -> bool {
        let ours = self.text.starts_with(&self.application.input(&self.peer));
        ours && self.application.set_input(&self.peer, "").is_ok()
    }

    fn give_back(&mut self) {}

    fn lost(&mut self) -> Option<Problem> {
        None
    }
}
