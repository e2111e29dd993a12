//! Fetches what the judge is given.
