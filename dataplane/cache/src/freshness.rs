//! How old an object may be when it is served.

use std::time::Duration;

use lockgate_wire::Instant;

use crate::store::object::Object;

/// The two limits of an object's age, as nginx's `proxy_cache_background_update` and Varnish's
/// grace have them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Freshness {
    pub(crate) revalidate: Duration,
    pub(crate) stale_max: Duration,
}

/// The age of an object, counted from the last time that its source found it current.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Age {
    /// It is served.
    Fresh,
    /// It is served while its source checks it.
    //= https://www.rfc-editor.org/rfc/rfc5861#section-3
    //# When present in an HTTP response, the stale-while-revalidate Cache-Control extension
    //# indicates that caches MAY serve the response in which it appears after it becomes stale, up
    //# to the indicated number of seconds.
    Stale,
    /// It is served once its source has checked it.
    Expired,
}

impl Freshness {
    /// The age of `object` at `now`.
    pub(crate) fn of(&self, object: &Object, now: Instant) -> Age {
        let age = now.saturating_since(object.validated_at());
        if age <= self.revalidate {
            Age::Fresh
        } else if age <= self.revalidate.saturating_add(self.stale_max) {
            Age::Stale
        } else {
            Age::Expired
        }
    }
}
