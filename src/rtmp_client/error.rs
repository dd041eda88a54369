//! Why there is no connection, or none any more.

/// What went wrong. Words that come from the server may hold secrets: whoever shows them takes those out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The host name is unknown.
    #[error("the host name cannot be resolved: {0}")]
    Resolve(String),
    /// Nobody answers there.
    #[error("no connection: {0}")]
    Unreachable(String),
    /// The network took the connection away, or the server closed it.
    #[error("the connection is closed")]
    Closed,
    /// The server said no to the stream.
    #[error("{0}")]
    Refused(String),
    /// The server said that something failed.
    #[error("{0}")]
    Answered(String),
    /// The server's certificate does not pass the checks.
    #[error("{0}")]
    Certificate(String),
    /// TLS failed.
    #[error("{0}")]
    Tls(String),
    /// What the server sends is not RTMP.
    #[error("the server does not speak RTMP properly: {0}")]
    Protocol(&'static str),
    /// This process has as many files open as it may.
    #[error("no more files may be open")]
    NoFiles,
    /// This machine cannot.
    #[error("{0}")]
    Io(String),
}

/// ENFILE and EMFILE, which std has no kind for; the same numbers on Linux, macOS and the BSDs.
#[cfg(unix)]
const NO_FILES: [i32; 2] = [23, 24];
/// WSAEMFILE.
#[cfg(windows)]
const NO_FILES: [i32; 1] = [10_024];

impl Error {
    /// What an error on the way to an open socket means, if it is not this machine's own.
    pub(super) fn of_opening(error: &std::io::Error, otherwise: fn(String) -> Self) -> Self {
        match error.raw_os_error() {
            Some(number) if NO_FILES.contains(&number) => Self::NoFiles,
            _ => otherwise(error.to_string()),
        }
    }

    /// What an error of an open socket means.
    pub(super) fn of_socket(error: &std::io::Error) -> Self {
        match error.kind() {
            // Whatever else ends a TCP connection: reset, broken pipe, host gone.
            kind if kind != std::io::ErrorKind::InvalidData => Self::Closed,
            _ => Self::Tls(error.to_string()),
        }
    }

    /// What rustls says.
    pub(super) fn of_tls(error: &rustls::Error) -> Self {
        match error {
            rustls::Error::InvalidCertificate(_) | rustls::Error::NoCertificatesPresented => {
                Self::Certificate(error.to_string())
            }
            _ => Self::Tls(error.to_string()),
        }
    }
}
