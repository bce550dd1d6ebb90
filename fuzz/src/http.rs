//! HTTP/1 requests: any bytes. How they are cut into pieces makes no difference, and no path leads
//! out of its tree.

use lockgate_http::{Action, Connection, HttpContext, Limits};
use lockgate_wire::Instant;

/// Runs the target on one input.
///
/// # Panics
/// If a property doesn't hold.
pub fn run(input: &[u8]) {
    let Some((step, bytes)) = input.split_first() else {
        return;
    };
    let whole = serve(bytes, bytes.len().max(1));
    let pieces = serve(bytes, usize::from(*step).max(1));
    assert_eq!(whole, pieces, "the pieces make a difference");
}

/// Answers up to 64 requests. Returns their paths; `None` for those that were refused.
fn serve(bytes: &[u8], step: usize) -> Vec<Option<Vec<u8>>> {
    let now = Instant::from_nanos(1_000_000_000);
    let mut cx = HttpContext::new(Limits::default());
    let mut connection = Connection::new(now, &cx);
    let mut asked = Vec::new();
    let mut left = bytes;
    while asked.len() < 64 {
        match connection.next_action() {
            Action::Read if left.is_empty() => break,
            Action::Read => {
                let piece = &left[..step.min(left.len())];
                let taken = connection.on_bytes(now, piece, &mut cx);
                assert!(taken <= piece.len());
                assert!(
                    taken > 0 || !matches!(connection.next_action(), Action::Read),
                    "no byte was taken"
                );
                left = &left[taken..];
            }
            Action::AskForBody => connection.on_body_requested(),
            Action::Respond => {
                let refused = connection.refusal().is_some();
                let path = connection.request().map(|request| request.path().to_vec());
                if let Some(path) = path.as_ref().filter(|_| !refused) {
                    let climbs = path.split(|b| *b == b'/').any(|segment| segment == b"..");
                    assert!(
                        !climbs && !path.contains(&0),
                        "a path leads out of its tree"
                    );
                }
                asked.push(path.filter(|_| !refused));
                connection.begin_response(now, &cx);
                connection.end_response(now, &mut cx);
            }
            Action::Send | Action::Linger | Action::Close => break,
        }
    }
    connection.release(&mut cx);
    asked
}
