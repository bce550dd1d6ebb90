//! Request methods.

/// A request method, as far as this server tells them apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// GET: the representation is asked for.
    Get,
    /// HEAD: the head of GET's response.
    Head,
    /// CONNECT: a tunnel. No object allows it, and what follows isn't HTTP.
    Connect,
    /// A registered method that no object here allows.
    NotAllowed,
    /// A method that this server doesn't implement.
    Unknown,
}

impl Method {
    /// The method that `token` names. Methods are case-sensitive.
    pub(crate) fn of(token: &[u8]) -> Self {
        match token {
            b"GET" => Self::Get,
            b"HEAD" => Self::Head,
            b"CONNECT" => Self::Connect,
            b"POST" | b"PUT" | b"DELETE" | b"OPTIONS" | b"TRACE" | b"PATCH" => Self::NotAllowed,
            _ => Self::Unknown,
        }
    }
}
