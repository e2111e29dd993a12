//! Puts autoreply under load and under faults, and checks from outside what came of it.

pub mod chaos;
pub mod checker;
pub mod facts;
pub mod load;
pub mod model;
pub mod plan;
pub mod report;
pub mod services;
pub mod sim;
pub mod upgrade;
