//! A certificate that can be swapped while connections are open. Open sessions go on with the
//! one that they began with.

use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::{
    SignatureScheme,
    client::ResolvesClientCert,
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use super::{TlsSetup, provider};

/// The key and certificate chain that this side shows in its next handshakes.
#[derive(Debug)]
pub struct SwapCert(ArcSwap<CertifiedKey>);

impl SwapCert {
    /// Begins with this key and its chain, leaf first.
    ///
    /// # Errors
    ///
    /// If the key does not fit the certificate.
    pub fn new(
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
    ) -> Result<Arc<Self>, TlsSetup> {
        Ok(Arc::new(Self(ArcSwap::from_pointee(fitting(chain, key)?))))
    }

    /// Shows this key and chain from the next handshake on.
    ///
    /// # Errors
    ///
    /// If the key does not fit the certificate; the earlier one stays.
    pub fn swap(
        &self,
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
    ) -> Result<(), TlsSetup> {
        self.0.store(Arc::new(fitting(chain, key)?));
        Ok(())
    }

    /// Shows what `other` shows.
    #[cfg(test)]
    pub(crate) fn share(&self, other: &Self) {
        self.0.store(other.0.load_full());
    }

    /// Returns the certificate that is shown.
    pub fn leaf(&self) -> CertificateDer<'static> {
        self.0.load().cert.first().cloned().expect("the chain has a leaf: fitting checked its key")
    }
}

fn fitting(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<CertifiedKey, TlsSetup> {
    CertifiedKey::from_der(chain, key, &provider())
        .map_err(|source| TlsSetup::new("the key does not fit its certificate", source))
}

impl ResolvesServerCert for SwapCert {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load_full())
    }
}

impl ResolvesClientCert for SwapCert {
    fn resolve(&self, _: &[&[u8]], schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        let shown = self.0.load_full();
        shown.key.choose_scheme(schemes).map(|_| shown)
    }

    fn has_certs(&self) -> bool {
        true
    }
}
