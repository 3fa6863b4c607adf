//! A server that is lost and comes back, and one that answers without end.

use super::*;

#[test]
fn who_has_a_picture_is_not_called_by_a_daemon_that_is_back() {
    let mut stage = Stage::signed_in("joined", "alice,2,1\nbob,3,1\ncarol,4,1\n");
    stage.waited_at_once(replied(200, 2, &offer(5)));
    stage.answer(described());
    stage.later(peers::CALL_AFTER);
    assert_eq!(stage.called(), [3, 4]);
    stage.asks.retain(|(_, peer, _)| *peer == PeerId(4));
    stage.answer(described());
    let (request, ..) = stage.posts.iter().find(|(_, to, _)| *to == PeerId(4)).cloned().unwrap();
    stage.reply(request, replied(200, 0, ""));
    let offered_at = stage.now;
    stage.waited_at_once(failed(true));
    let request = stage.signs_in();
    // A server that began anew, with other ids.
    stage.reply(request, replied(200, 7, "desk,7,1\nalice,8,1\ncarol,9,1\ndave,10,1\n"));
    assert_eq!(stage.client.call(PeerId(9), stage.now), Err(CallError::Busy), "it has just had an offer");
    stage.later(peers::CALL_AFTER);
    assert_eq!(stage.called(), [10], "alice sees the daemon, carol has just had an offer");
    stage.waited(replied(200, 7, "alice,11,1\n"));
    stage.later(peers::CALL_AFTER);
    assert_eq!(stage.called(), [10, 11], "a page that was loaded again is called");
    stage.now = offered_at + Duration::from_secs(15);
    stage.later(Duration::ZERO);
    assert_eq!(stage.called(), [10, 11, 9], "its answer was lost");
}

#[test]
fn who_has_a_picture_may_come_back_later_than_the_daemon() {
    for (later, called) in [(Duration::from_secs(1), vec![10]), (peers::BACK_WITHIN, vec![9, 10])] {
        let mut stage = Stage::signed_in("joined", "alice,2,1\n");
        stage.waited_at_once(replied(200, 2, &offer(5)));
        stage.answer(described());
        stage.waited_at_once(failed(true));
        let request = stage.signs_in();
        stage.reply(request, replied(200, 7, "desk,7,1\n"));
        stage.later(later);
        stage.waited(replied(200, 7, "alice,9,1\n"));
        stage.waited(replied(200, 7, "bob,10,1\n"));
        stage.later(peers::CALL_AFTER);
        assert_eq!(stage.called(), called, "{later:?} after the daemon");
    }
}

#[test]
fn a_wait_of_an_id_that_is_gone_does_not_go_on() {
    let mut stage = Stage::signed_in("none", "alice,2,1\n");
    stage.waited(replied(200, 2, &offer(5)));
    stage.answer(described());
    let (post, ..) = stage.posts[0];
    stage.reply(post, replied(500, 0, "Sorry, not yet implemented"));
    assert_eq!(stage.abandoned, stage.wait.take().into_iter().collect::<Vec<_>>());
    assert_eq!((stage.abandoned.len(), stage.own()), (1, None));
}

#[test]
fn a_server_that_says_the_same_at_once_for_ever_is_asked_more_slowly() {
    let mut stage = Stage::signed_in("none", "alice,2,1\n");
    let same = || replied(200, 1, "desk,1,1\nalice,2,1\n");
    for _ in 0..2 {
        for _ in 0..MOST_IDLE {
            stage.waited_at_once(same());
            assert!(stage.wait.is_some());
        }
        for _ in 0..3 {
            stage.waited_at_once(same());
            assert_eq!(stage.wait, None);
            stage.later(FRUITLESS_WAIT);
        }
        // Something new: what follows may be more of it.
        stage.waited_at_once(replied(200, 2, &offer(5)));
        stage.later(FRUITLESS_WAIT);
        assert!(stage.wait.is_some());
    }
    for id in 3..100 {
        stage.waited_at_once(replied(200, 1, &format!("p,{id},1\n")));
        assert!(stage.wait.is_some(), "it has much to say");
    }
}
