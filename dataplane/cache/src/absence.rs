//! Why there is nothing to serve.

/// Why there is nothing to serve at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Absence {
    /// Nothing exists there, or nothing inside the tree.
    NotFound,
    /// A directory.
    Directory,
    /// Permission denied, or not a regular file.
    Forbidden,
    /// The file is being written to: no consistent version of it can be read now.
    Changing,
    /// Reading fails, now or always.
    Failed,
}

impl Absence {
    /// Whether the next lookup most likely has the same result, so that a negative cache may keep
    /// it.
    pub(crate) fn is_lasting(self) -> bool {
        match self {
            Self::NotFound | Self::Directory | Self::Forbidden => true,
            Self::Changing | Self::Failed => false,
        }
    }
}
