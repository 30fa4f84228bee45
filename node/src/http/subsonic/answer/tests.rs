//! What needs no peer.

use std::collections::BTreeSet;

use super::table::{self, Handler};

#[test]
fn every_method_is_there_once() {
    let names: Vec<&str> = table::names().collect();
    assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len());
    for name in names {
        assert!(matches!(table::handler(name), Some(Handler::Plain(_))), "{name}");
    }
    assert!(matches!(table::handler("stream"), Some(Handler::Stream)));
    assert!(matches!(table::handler("download"), Some(Handler::Download)));
    assert!(matches!(table::handler("getCoverArt"), Some(Handler::Cover)));
    assert!(matches!(table::handler("reportPlayback"), Some(Handler::Report)));
    // The only one that says nothing of the listener needs no login.
    assert!(matches!(table::handler("getOpenSubsonicExtensions"), Some(Handler::Open(_))));
    for unknown in ["", "Ping", "ping.view", "createUser", "jukeboxControl", "hls"] {
        assert!(table::handler(unknown).is_none(), "{unknown}");
    }
}
