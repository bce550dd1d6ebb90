//! Fixture `zero_len`: records without content, received with AES-CCM of TLS 1.2.

use crate::support::linux::{End, MSG_DONTWAIT, Pair, Setup};
use crate::support::records::DATA;
use crate::{Case, Of, own};
use lockgate_ktls::Errno;

/// Linux's type of the control records.
const CTRL: u8 = 100;

pub(crate) const CASES: &[Case] = &[
    own(
        "zero_len.data_data_data",
        Of::Ccm,
        "33 bytes by one read",
        |setup| reads(setup, &[(DATA, 11); 3], &[(DATA, 33)]),
    ),
    own(
        "zero_len.data_0ctrl_data",
        Of::Ccm,
        "11, 0 of the control record, 11",
        |setup| {
            let records = [(DATA, 11), (CTRL, 0), (DATA, 11)];
            reads(setup, &records, &records);
        },
    ),
    own(
        "zero_len.0data_0data_0data",
        Of::Ccm,
        "EAGAIN at once: no end of the stream",
        |setup| reads(setup, &[(DATA, 0); 3], &[]),
    ),
    own(
        "zero_len.0data_0data_ctrl",
        Of::Ccm,
        "0 of the data, 11 of the control record",
        |setup| {
            let records = [(DATA, 0), (DATA, 0), (CTRL, 11)];
            reads(setup, &records, &[(DATA, 0), (CTRL, 11)]);
        },
    ),
    own(
        "zero_len.0data_0data_0ctrl",
        Of::Ccm,
        "0 of the data, 0 of the control record",
        |setup| {
            let records = [(DATA, 0), (DATA, 0), (CTRL, 0)];
            reads(setup, &records, &[(DATA, 0), (CTRL, 0)]);
        },
    ),
    own(
        "zero_len.0ctrl_0ctrl_0ctrl",
        Of::Ccm,
        "0 of each",
        |setup| reads(setup, &[(CTRL, 0); 3], &[(CTRL, 0); 3]),
    ),
    own("zero_len.0data_0data_data", Of::Ccm, "11", |setup| {
        let records = [(DATA, 0), (DATA, 0), (DATA, 11)];
        reads(setup, &records, &[(DATA, 11)]);
    }),
    own("zero_len.data_0data_0data", Of::Ccm, "11", |setup| {
        let records = [(DATA, 11), (DATA, 0), (DATA, 0)];
        reads(setup, &records, &[(DATA, 11)]);
    }),
];

/// Types and lengths of records, and of what reads return until there is nothing left.
fn reads(setup: Setup, records: &[(u8, usize)], expected: &[(u8, usize)]) {
    let mut pair = Pair::raw(setup);
    for (kind, len) in records {
        let record = pair.seal(*kind, &b"zero length"[..*len]);
        pair.feed(&record);
    }
    for (kind, len) in expected {
        let got = pair.recvmsg(End::Cfd, 2000, MSG_DONTWAIT);
        let got = got.map(|(bytes, kind)| (kind, bytes.len()));
        assert_eq!(got, Ok((*kind, *len)));
    }
    for _ in 0..2 {
        let nothing = pair.recvmsg(End::Cfd, 2000, MSG_DONTWAIT);
        assert_eq!(nothing, Err(Errno::Eagain));
    }
    // It is no end: what comes later is read.
    let record = pair.seal(DATA, b"later");
    pair.feed(&record);
    let later = pair.recvmsg(End::Cfd, 2000, 0);
    assert_eq!(later, Ok((b"later".to_vec(), DATA)));
}
