//! Proof that a record was written by this process: a keyed hash, for the embedded broker, whose port is open to
//! every user of the machine.

use std::fmt;

use uuid::Uuid;

use crate::contract::wire::WireRecord;

/// The header that carries the proof, as 64 hexadecimal digits.
pub const MAC_HEADER: &str = "autoreply-mac";

/// A key that lives in this process only. It is never shown, stored or sent.
#[derive(Clone)]
pub struct AuthKey([u8; 32]);

impl AuthKey {
    /// A fresh random key of 244 bits of the system's randomness.
    pub fn draw() -> Self {
        let mut material = [0_u8; 32];
        material[..16].copy_from_slice(Uuid::new_v4().as_bytes());
        material[16..].copy_from_slice(Uuid::new_v4().as_bytes());
        Self(blake3::derive_key("autoreply 2026 embedded broker record key", &material))
    }

    /// The keyed BLAKE3 hash over topic, key, type and payload, each prefixed with its length.
    fn mac(&self, record: &WireRecord, ce_type: &str) -> blake3::Hash {
        let mut hasher = blake3::Hasher::new_keyed(&self.0);
        for field in [record.topic.as_bytes(), &record.key, ce_type.as_bytes(), &record.payload] {
            hasher.update(&(field.len() as u64).to_le_bytes());
            hasher.update(field);
        }
        hasher.finalize()
    }

    /// Adds the proof to `record`, in place of any it carries.
    pub fn sign(&self, record: &mut WireRecord) {
        let ce_type = record.header("ce_type").unwrap_or_default().to_owned();
        let mac = self.mac(record, &ce_type).to_hex();
        record.headers.retain(|(name, _)| name != MAC_HEADER);
        record.headers.push((MAC_HEADER.to_owned(), mac.as_bytes().to_vec()));
    }

    /// Whether `record` carries the right proof; compared in constant time.
    pub fn accepts(&self, record: &WireRecord) -> bool {
        let ce_type = record.header("ce_type").unwrap_or_default();
        record
            .header(MAC_HEADER)
            .and_then(|hex| blake3::Hash::from_hex(hex).ok())
            .is_some_and(|mac| mac == self.mac(record, ce_type))
    }
}

impl fmt::Debug for AuthKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AuthKey(..)")
    }
}
