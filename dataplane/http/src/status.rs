//! The status codes that this server can answer with.

/// A response status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Status {
    /// 200
    Ok,
    /// 206
    PartialContent,
    /// 301
    MovedPermanently,
    /// 304
    NotModified,
    /// 400
    BadRequest,
    /// 403
    Forbidden,
    /// 404
    NotFound,
    /// 405
    MethodNotAllowed,
    /// 408
    RequestTimeout,
    /// 412
    PreconditionFailed,
    /// 413
    ContentTooLarge,
    /// 414
    UriTooLong,
    /// 416
    RangeNotSatisfiable,
    /// 417
    ExpectationFailed,
    /// 421
    MisdirectedRequest,
    /// 431
    HeaderFieldsTooLarge,
    /// 500
    InternalServerError,
    /// 501
    NotImplemented,
    /// 503
    ServiceUnavailable,
    /// 505
    VersionNotSupported,
}

impl Status {
    /// Every status, in the order of the codes.
    pub const ALL: [Self; 20] = [
        Self::Ok,
        Self::PartialContent,
        Self::MovedPermanently,
        Self::NotModified,
        Self::BadRequest,
        Self::Forbidden,
        Self::NotFound,
        Self::MethodNotAllowed,
        Self::RequestTimeout,
        Self::PreconditionFailed,
        Self::ContentTooLarge,
        Self::UriTooLong,
        Self::RangeNotSatisfiable,
        Self::ExpectationFailed,
        Self::MisdirectedRequest,
        Self::HeaderFieldsTooLarge,
        Self::InternalServerError,
        Self::NotImplemented,
        Self::ServiceUnavailable,
        Self::VersionNotSupported,
    ];

    /// The code and reason phrase, as they stand in a status line.
    pub const fn line(self) -> &'static str {
        match self {
            Self::Ok => "200 OK",
            Self::PartialContent => "206 Partial Content",
            Self::MovedPermanently => "301 Moved Permanently",
            Self::NotModified => "304 Not Modified",
            Self::BadRequest => "400 Bad Request",
            Self::Forbidden => "403 Forbidden",
            Self::NotFound => "404 Not Found",
            Self::MethodNotAllowed => "405 Method Not Allowed",
            Self::RequestTimeout => "408 Request Timeout",
            Self::PreconditionFailed => "412 Precondition Failed",
            Self::ContentTooLarge => "413 Content Too Large",
            Self::UriTooLong => "414 URI Too Long",
            Self::RangeNotSatisfiable => "416 Range Not Satisfiable",
            Self::ExpectationFailed => "417 Expectation Failed",
            Self::MisdirectedRequest => "421 Misdirected Request",
            Self::HeaderFieldsTooLarge => "431 Request Header Fields Too Large",
            Self::InternalServerError => "500 Internal Server Error",
            Self::NotImplemented => "501 Not Implemented",
            Self::ServiceUnavailable => "503 Service Unavailable",
            Self::VersionNotSupported => "505 HTTP Version Not Supported",
        }
    }

    /// The name of its counter.
    pub const fn counter(self) -> &'static str {
        match self {
            Self::Ok => "http.responses.200",
            Self::PartialContent => "http.responses.206",
            Self::MovedPermanently => "http.responses.301",
            Self::NotModified => "http.responses.304",
            Self::BadRequest => "http.responses.400",
            Self::Forbidden => "http.responses.403",
            Self::NotFound => "http.responses.404",
            Self::MethodNotAllowed => "http.responses.405",
            Self::RequestTimeout => "http.responses.408",
            Self::PreconditionFailed => "http.responses.412",
            Self::ContentTooLarge => "http.responses.413",
            Self::UriTooLong => "http.responses.414",
            Self::RangeNotSatisfiable => "http.responses.416",
            Self::ExpectationFailed => "http.responses.417",
            Self::MisdirectedRequest => "http.responses.421",
            Self::HeaderFieldsTooLarge => "http.responses.431",
            Self::InternalServerError => "http.responses.500",
            Self::NotImplemented => "http.responses.501",
            Self::ServiceUnavailable => "http.responses.503",
            Self::VersionNotSupported => "http.responses.505",
        }
    }

    /// The three digits.
    pub fn code(self) -> u16 {
        self.line()
            .bytes()
            .take(3)
            .fold(0, |code, digit| code * 10 + u16::from(digit - b'0'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_ordered_and_all_are_listed() {
        let codes: Vec<u16> = Status::ALL.iter().map(|s| s.code()).collect();
        assert!(codes.is_sorted(), "{codes:?}");
        for (at, status) in Status::ALL.iter().enumerate() {
            assert_eq!(*status as usize, at);
            assert_eq!(
                status.counter(),
                format!("http.responses.{}", status.code())
            );
        }
    }
}
