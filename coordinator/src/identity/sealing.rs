//! Sealing: secrets are stored as only this coordinator can read them.
//!
//! ChaCha20-Poly1305 (RFC 8439) with a key of the data directory and a random nonce for each value,
//! bound to the value's id: one that was moved to another id does not open. Whoever has the log, or
//! a backup of it, has no secret; whoever has `identity/` as well has all of them.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use cutover_common::{SecretId, SecretValue, config::InvalidSecret};
use cutover_coordinator_core::Sealed;
use cutover_runtime::{
    dice,
    tls::files::{self, Access, ReadFile, WriteFile},
};
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};

const KEY_FILE: &str = "secrets-key.hex";
const KEY_BYTES: usize = 32;

/// What secrets are sealed with. Has no printable form.
pub struct SealingKey(LessSafeKey);

/// Why there is no key to seal with.
#[derive(Debug, thiserror::Error)]
pub enum LoadSealingKey {
    #[error("could not read the key of the secrets")]
    Read(#[from] ReadFile),
    #[error("could not make the key of the secrets")]
    Write(#[from] WriteFile),
    #[error("could not look for the key of the secrets")]
    Look(#[source] io::Error),
    #[error(
        "the key of the secrets in {KEY_FILE} is broken; bring it back from the backup of \
         `identity`; where there is none, move the file away, and type: \
         cutover-coordinator forget-secrets"
    )]
    Broken,
    /// `SECRETS_KEY`.
    #[error(
        "SECRETS_KEY: {} is gone, and {sealed} secrets are sealed with it; bring it back from the \
         backup of `identity`; where there is none, go on without these secrets: \
         cutover-coordinator forget-secrets",
        path.display()
    )]
    Gone { path: PathBuf, sealed: usize },
    /// `SECRETS_KEY`.
    #[error(
        "SECRETS_KEY: {} opens {} of {sealed} secrets: the others were sealed with another key; \
         bring that one back from the backup of `identity`; where there is none, go on without \
         these secrets: cutover-coordinator forget-secrets",
        path.display(), sealed - foreign
    )]
    Another { path: PathBuf, sealed: usize, foreign: usize },
}

/// Why a sealed secret could not be read.
#[derive(Debug, thiserror::Error)]
pub enum Unseal {
    #[error("it was sealed with another key, or is damaged")]
    Key,
    #[error("it holds no secret")]
    Value(#[from] InvalidSecret),
}

impl SealingKey {
    /// Loads the key that opens all of `sealed`, and makes one where there is none and nothing sealed.
    ///
    /// # Errors
    ///
    /// If it may be read by others, is broken, gone or another one, or cannot be made. Whoever goes on
    /// with another key sends hosts goals without their secrets.
    pub fn load_or_make<'a>(
        dir: &Path,
        sealed: impl IntoIterator<Item = (SecretId, &'a Sealed)>,
    ) -> Result<Self, LoadSealingKey> {
        let path = dir.join(KEY_FILE);
        let mut sealed = sealed.into_iter();
        let Some(key) = Self::load(dir)? else {
            return match sealed.count() {
                0 => Self::make(dir),
                sealed => Err(LoadSealingKey::Gone { path, sealed }),
            };
        };
        let (mut count, mut foreign) = (0, 0);
        for (id, sealed) in sealed.by_ref() {
            count += 1;
            foreign += usize::from(key.open(id, sealed).is_err());
        }
        if foreign > 0 {
            return Err(LoadSealingKey::Another { path, sealed: count, foreign });
        }
        Ok(key)
    }

    fn make(dir: &Path) -> Result<Self, LoadSealingKey> {
        let hex: String =
            dice::bytes::<KEY_BYTES>().iter().map(|byte| format!("{byte:02x}")).collect();
        files::write(&dir.join(KEY_FILE), hex.as_bytes(), Access::Owner)?;
        Self::load(dir)?.ok_or(LoadSealingKey::Broken)
    }

    /// Loads the key, if there is one.
    ///
    /// # Errors
    ///
    /// If it may be read by others, or is broken.
    pub fn load(dir: &Path) -> Result<Option<Self>, LoadSealingKey> {
        let path = dir.join(KEY_FILE);
        if !path.try_exists().map_err(LoadSealingKey::Look)? {
            return Ok(None);
        }
        let hex = files::read_secret(&path)?;
        let byte = |at: usize| hex.get(at..at + 2).and_then(|it| u8::from_str_radix(it, 16).ok());
        let bytes: Option<Vec<u8>> = (0..hex.trim_end().len()).step_by(2).map(byte).collect();
        let key = bytes.and_then(|bytes| UnboundKey::new(&CHACHA20_POLY1305, &bytes).ok());
        Ok(Some(Self(LessSafeKey::new(key.ok_or(LoadSealingKey::Broken)?))))
    }

    /// Returns `value` as only this key opens it, and only as the value of `id`.
    pub fn seal(&self, id: SecretId, value: &SecretValue) -> Sealed {
        let nonce = dice::bytes::<NONCE_LEN>();
        let mut sealed = value.reveal().to_vec();
        self.0
            .seal_in_place_append_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(id.0.as_bytes()),
                &mut sealed,
            )
            .expect("a value of 32 KiB is far below the 256 GiB that one nonce seals");
        Sealed(Arc::from([&nonce[..], &sealed].concat()))
    }

    /// Opens what was sealed.
    ///
    /// # Errors
    ///
    /// If another key sealed it, or for another id, or it was changed since.
    pub fn open(&self, id: SecretId, sealed: &Sealed) -> Result<SecretValue, Unseal> {
        let (nonce, sealed) = sealed.0.split_first_chunk::<NONCE_LEN>().ok_or(Unseal::Key)?;
        let mut bytes = sealed.to_vec();
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let opened = self.0.open_in_place(nonce, Aad::from(id.0.as_bytes()), &mut bytes);
        let opened = opened.map_err(|_| Unseal::Key)?;
        Ok(SecretValue::new(opened.to_vec())?)
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn made(dir: &Path) -> SealingKey {
        SealingKey::load_or_make(dir, []).unwrap()
    }

    #[test]
    fn a_secret_opens_with_its_key_and_id_alone() {
        let dir = tempfile::tempdir().unwrap();
        let key = made(dir.path());
        let (id, other) = (SecretId(Uuid::from_u128(1)), SecretId(Uuid::from_u128(2)));
        let value = SecretValue::new(b"hunter2".to_vec()).unwrap();

        let sealed = key.seal(id, &value);

        assert!(!sealed.0.windows(7).any(|window| window == b"hunter2"));
        assert_ne!(key.seal(id, &value), sealed, "a nonce is used once");
        let again = made(dir.path());
        assert_eq!(again.open(id, &sealed).unwrap(), value);
        assert!(matches!(key.open(other, &sealed), Err(Unseal::Key)));
        let mut bytes = sealed.0.to_vec();
        *bytes.last_mut().unwrap() ^= 1;
        assert!(matches!(key.open(id, &Sealed(bytes.into())), Err(Unseal::Key)));
        assert!(matches!(key.open(id, &Sealed([1, 2].into())), Err(Unseal::Key)));
        let elsewhere = tempfile::tempdir().unwrap();
        let stranger = made(elsewhere.path());
        assert!(matches!(stranger.open(id, &sealed), Err(Unseal::Key)));
    }

    #[test]
    fn what_is_sealed_refuses_another_key_or_none() {
        let dir = tempfile::tempdir().unwrap();
        let key = made(dir.path());
        let value = SecretValue::new(b"hunter2".to_vec()).unwrap();
        let ids = [1, 2].map(|id| SecretId(Uuid::from_u128(id)));
        let sealed = ids.map(|id| key.seal(id, &value));
        let all = || ids.iter().copied().zip(&sealed);
        assert!(SealingKey::load_or_make(dir.path(), all()).is_ok());

        let path = dir.path().join(KEY_FILE);
        let aside = dir.path().join("aside");
        std::fs::rename(&path, &aside).unwrap();
        let gone = SealingKey::load_or_make(dir.path(), all()).err().unwrap().to_string();
        assert!(gone.contains("secrets-key.hex is gone, and 2 secrets are sealed"), "{gone}");
        assert!(!path.exists(), "none is made in its place");

        let another = made(dir.path());
        let mixed = [(ids[0], another.seal(ids[0], &value)), (ids[1], sealed[1].clone())];
        let mixed = mixed.iter().map(|(id, sealed)| (*id, sealed));
        let error = SealingKey::load_or_make(dir.path(), mixed).err().unwrap().to_string();
        assert!(error.contains("secrets-key.hex opens 1 of 2 secrets"), "{error}");
        for text in [gone, error] {
            assert!(text.contains("cutover-coordinator forget-secrets"), "{text}");
        }
        std::fs::rename(&aside, &path).unwrap();
        assert!(SealingKey::load_or_make(dir.path(), all()).is_ok());
    }

    #[test]
    fn a_key_that_others_may_know_or_that_is_none_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(KEY_FILE);
        files::write(&path, b"00ff", Access::Owner).unwrap();
        assert!(matches!(SealingKey::load_or_make(dir.path(), []), Err(LoadSealingKey::Broken)));
        files::write(&path, "00".repeat(KEY_BYTES).as_bytes(), Access::Everybody).unwrap();
        assert!(matches!(SealingKey::load_or_make(dir.path(), []), Err(LoadSealingKey::Read(_))));
    }
}
