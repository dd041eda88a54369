//! Data channels between two sessions, over real sockets: whoever opens one, both send by it, in whichever way was agreed
//! upon, and neither can make the other keep more than it should.

use std::time::Duration;

use crate::common::{
    SOON,
    data::{End, Listener, Told, answer, answered, offer_data, pair, pair_with, run},
    media::Media,
    wait_until,
};
use bytes::Bytes;
use gstwebrtcbridge::session::{
    ChannelEnd, ConnectionState, DataChannel, DataError, DataMessage, DataOptions, Reliability, Session, Terms,
    data::{Adapter, Event, LARGEST_MESSAGE},
};

/// Opens a channel at one end; returns both handles.
fn open(by: &End, to: &End, label: &str, options: DataOptions) -> (DataChannel, DataChannel) {
    let ours = by.session.open_channel(label, options).expect("a channel");
    let theirs = to.listener.opened();
    assert_eq!(by.listener.opened(), ours);
    // The stack does not tell how reliable the other side made it: what it sends by it itself is reliable.
    let told = DataOptions { reliability: Reliability::Reliable, ..ours.options().clone() };
    assert_eq!((theirs.label(), theirs.options()), (label, &told));
    (ours, theirs)
}

fn send(end: &End, channel: &DataChannel, message: impl Into<DataMessage>) {
    let (channel, message) = (channel.clone(), message.into());
    run(&end.media, async move { channel.send(message).await.expect("a message is sent") });
}

/// Bytes that tell where they are from.
fn pattern(size: usize, seed: usize) -> Bytes {
    (0..size).map(|at| (at * 31 + seed * 7 + at / 251) as u8).collect()
}

#[test]
fn messages_of_every_kind_and_size_arrive_unchanged_whoever_opened_the_channel() {
    let (offerer, answerer) = pair();
    for (by, to, label) in [(&offerer, &answerer, "of the offerer"), (&answerer, &offerer, "of the answerer")] {
        let (ours, theirs) = open(by, to, label, DataOptions::default());
        for (from, at, channel) in [(by, to, &ours), (to, by, &theirs)] {
            let messages = [
                DataMessage::from("grüß dich"),
                DataMessage::from(""),
                DataMessage::from(Bytes::new()),
                DataMessage::from(Bytes::from_static(&[0])),
                DataMessage::from(pattern(LARGEST_MESSAGE, 1)),
                DataMessage::from("x".repeat(LARGEST_MESSAGE)),
            ];
            for message in &messages {
                send(from, channel, message.clone());
            }
            for message in &messages {
                let came = at.listener.message();
                assert!(came == *message, "{} bytes, not {}", came.len(), message.len());
            }
        }
    }
    let stats = wait_until("everything to be counted", SOON, || {
        let stats = answerer.session.stats().data;
        (stats.messages_sent == 12).then_some(stats)
    });
    let bytes = 2 * (2 * LARGEST_MESSAGE + "grüß dich".len() + 1) as u64;
    assert_eq!((stats.opened, stats.messages_received, stats.dropped), (2, 12, 0));
    assert_eq!((stats.bytes_sent, stats.bytes_received), (bytes, bytes));
    let labels: Vec<_> = stats.channels.iter().map(|channel| channel.label.as_str()).collect();
    assert_eq!(labels, ["of the offerer", "of the answerer"]);
    assert_eq!(answerer.session.channel("of the offerer").map(|channel| channel.id()), Some(0));
}

#[test]
fn a_channel_keeps_the_promises_that_it_was_opened_with() {
    let (offerer, answerer) = pair();
    let kinds = [
        (true, Reliability::Reliable),
        (false, Reliability::Reliable),
        (false, Reliability::Retransmits(0)),
        (true, Reliability::Retransmits(3)),
        (false, Reliability::Lifetime(Duration::from_millis(200))),
    ];
    for (ordered, reliability) in kinds {
        let options = DataOptions { ordered, reliability, protocol: "echo.v1".into() };
        let (ours, theirs) = open(&answerer, &offerer, "kind", options);
        for number in 0..20 {
            send(&answerer, &ours, pattern(5000, number));
        }
        // Nothing is lost on loopback, so everything arrives whatever was promised; in order only if that was.
        let mut came: Vec<_> = (0..20).map(|_| offerer.listener.message()).collect();
        let sent: Vec<_> = (0..20).map(|number| DataMessage::from(pattern(5000, number))).collect();
        if !ordered {
            came.sort_by_key(|message| sent.iter().position(|other| other == message));
        }
        assert!(came == sent, "{ordered} {reliability:?}");
        theirs.close();
        assert_eq!((answerer.listener.closed(), offerer.listener.closed()), (ChannelEnd::ByPeer, ChannelEnd::Closed));
    }
}

#[test]
fn a_message_that_is_too_large_is_refused_by_name_and_harms_nobody() {
    let limit = |sdp: String| sdp.replace("a=max-message-size:262144", "a=max-message-size:1000");
    let (offerer, answerer) = pair_with(limit);
    let (ours, _) = open(&offerer, &answerer, "small", DataOptions::default());
    assert_eq!(ours.largest(), 1000);
    let error = ours.try_send(pattern(1001, 0)).unwrap_err();
    assert_eq!(error.to_string(), "a message of 1001 bytes is too large: this peer takes 1000");
    let channel = ours.clone();
    let waited = run(&offerer.media, async move { channel.send(pattern(1001, 0)).await });
    assert_eq!(waited, Err(DataError::TooLarge { size: 1001, most: 1000 }));
    send(&offerer, &ours, pattern(1000, 0));
    assert_eq!(answerer.listener.message(), pattern(1000, 0).into());
    assert_eq!(offerer.session.stats().data.dropped, 2);
    let long = offerer.session.open_channel(&"x".repeat(1025), DataOptions::default()).unwrap_err();
    assert_eq!(long.to_string(), "a data channel's label may have 1024 bytes, not 1025");
}

#[test]
fn a_peer_that_takes_little_may_send_much() {
    // Only what is said to the answerer is changed.
    let (here, there) = (Media::start(), Media::start());
    let (asking, replying) = (Listener::new(), Listener::new());
    let offering = offer_data(&here, asking.clone());
    let offer = offering.sdp().replace("a=max-message-size:262144", "a=max-message-size:1000");
    let answer = answer(&there, offer, Terms { sends: None, data: Some(replying.clone()) });
    let session = answered(&here, offering, answer.sdp);
    let offerer = End { media: here, session, listener: asking };
    let answerer = End { media: there, session: answer.session, listener: replying };
    let (ours, theirs) = open(&offerer, &answerer, "much", DataOptions::default());
    assert_eq!((ours.largest(), theirs.largest()), (LARGEST_MESSAGE, 1000));
    send(&offerer, &ours, pattern(LARGEST_MESSAGE, 0));
    assert!(answerer.listener.message() == pattern(LARGEST_MESSAGE, 0).into());
}

#[test]
fn a_slow_peer_holds_the_sender_back_and_nothing_is_lost() {
    let (offerer, answerer) = pair();
    let (ours, _) = open(&offerer, &answerer, "bulk", DataOptions::default());
    answerer.listener.take(false);
    // As much as fits here, in the stacks, and on the way: bounded, and far from everything. It is full when both threads have
    // gone round and round and there still is no room.
    let (mut sent, mut turns) = (0, 0);
    while turns < 100 {
        match ours.try_send(pattern(16 * 1024, sent)) {
            Ok(()) => (sent, turns) = (sent + 1, 0),
            Err(DataError::Full) => {
                turns += 1;
                [&offerer, &answerer].iter().for_each(|end| run(&end.media, async {}));
                std::thread::sleep(Duration::from_millis(5)); // the stack acknowledges by its own timers
            }
            Err(error) => panic!("{error}"),
        }
        // 256 events wait in the stack, and as many messages before it; that and the buffers of 16 KiB messages is what comes of it.
        assert!(sent < 1000, "no end of it");
    }
    let waiting = {
        let channel = ours.clone();
        offerer.media.runtime.spawn(async move { channel.send("at last").await })
    };
    let dropped = offerer.session.stats().data.dropped;
    assert!(dropped >= 100, "{dropped}");
    answerer.listener.take(true);
    for number in 0..sent {
        assert!(answerer.listener.message() == pattern(16 * 1024, number).into(), "message {number} of {sent}");
    }
    assert_eq!(answerer.listener.message(), "at last".into());
    assert!(run(&offerer.media, async move { waiting.await.expect("a task") }).is_ok());
    assert!(matches!(offerer.listener.next(), Told::Low));
    wait_until("an empty buffer", SOON, || (ours.buffered() == 0).then_some(()));
}

#[test]
fn what_waits_for_a_slow_sink_is_known_in_bytes_for_all_channels_together() {
    const SIZE: usize = 64 * 1024;
    let (offerer, answerer) = pair();
    answerer.listener.take(false);
    let held = || answerer.session.stats().data.held as usize;
    let channels: Vec<_> =
        (0..3).map(|n| offerer.session.open_channel(&n.to_string(), DataOptions::default())).collect();
    for number in 0..20 {
        for channel in &channels {
            send(&offerer, channel.as_ref().expect("a channel"), pattern(SIZE, number));
        }
    }
    // One of each is with the sink.
    wait_until("what is held", SOON, || (56 * SIZE..60 * SIZE).contains(&held()).then_some(()));
    answerer.listener.take(true);
    for _ in 0..3 * 20 + channels.len() {
        answerer.listener.next(); // a message, or that a channel is open
    }
    wait_until("nothing to be held", SOON, || (held() < SIZE / 2).then_some(()));
    // Much that is taken at once is no burden.
    for number in 0..300 {
        send(&offerer, channels[0].as_ref().expect("a channel"), pattern(SIZE, number));
        answerer.listener.message();
    }
    wait_until("nothing to be held", SOON, || (held() < SIZE).then_some(()));
}

#[test]
fn what_was_sent_last_arrives_although_the_session_is_ended_at_once() {
    let (offerer, answerer) = pair();
    let (ours, _) = open(&offerer, &answerer, "last", DataOptions::default());
    for number in 0..4 {
        ours.try_send(pattern(100_000, number)).expect("room");
    }
    // Opened and used in one breath.
    let late = offerer.session.open_channel("late", DataOptions::default()).expect("a channel");
    late.try_send("farewell").expect("room");
    let session = offerer.session.clone();
    run(&offerer.media, async move { session.close(gstwebrtcbridge::session::EndReason::Shutdown).await });
    let mut bulk = 0;
    let mut farewell = false;
    while bulk < 4 || !farewell {
        match answerer.listener.next() {
            Told::Message(channel, message) if channel.label() == "last" => {
                assert!(message == pattern(100_000, bulk).into(), "message {bulk}");
                bulk += 1;
            }
            Told::Message(_, message) => farewell = message == "farewell".into(),
            Told::Opened(_) | Told::Low => {}
            closed => panic!("{closed:?}"),
        }
    }
    assert_eq!(offerer.session.stats().data.dropped, 0);
}

#[test]
fn a_session_ends_although_its_peer_takes_nothing() {
    let (offerer, answerer) = pair();
    let (ours, _) = open(&offerer, &answerer, "stuck", DataOptions::default());
    // As one that has crashed, or is behind a link that is down: nobody acknowledges.
    let (revive, crashed) = std::sync::mpsc::channel::<()>();
    answerer.media.runtime.spawn(async move { _ = crashed.recv() });
    for number in 0..4 {
        ours.try_send(pattern(100_000, number)).expect("room");
    }
    let session = offerer.session.clone();
    run(&offerer.media, async move { session.close(gstwebrtcbridge::session::EndReason::Shutdown).await });
    assert!(ours.is_closed());
    drop(revive);
}

#[test]
fn what_was_sent_before_a_channel_is_closed_arrives() {
    let (offerer, answerer) = pair();
    let (ours, theirs) = open(&offerer, &answerer, "short", DataOptions::default());
    for number in 0..4 {
        ours.try_send(pattern(100_000, number)).expect("room");
    }
    ours.close();
    for number in 0..4 {
        assert!(answerer.listener.message() == pattern(100_000, number).into());
    }
    assert_eq!((answerer.listener.closed(), offerer.listener.closed()), (ChannelEnd::ByPeer, ChannelEnd::Closed));
    assert_eq!((ours.try_send("late"), theirs.try_send("late")), (Err(DataError::Closed), Err(DataError::Closed)));
    // The connection is as it was.
    let (again, _) = open(&answerer, &offerer, "short", DataOptions::default());
    send(&answerer, &again, "still here");
    assert_eq!(offerer.listener.message(), "still here".into());
}

#[test]
fn the_end_of_a_session_closes_its_channels() {
    let (offerer, answerer) = pair();
    let (ours, theirs) = open(&offerer, &answerer, "live", DataOptions::default());
    let session = answerer.session.clone();
    run(&answerer.media, async move {
        session.close(gstwebrtcbridge::session::EndReason::Shutdown).await;
    });
    assert_eq!(answerer.listener.closed(), ChannelEnd::SessionOver);
    assert!(theirs.is_closed());
    assert_eq!(answerer.session.open_channel("more", DataOptions::default()), Err(DataError::Closed));
    // The peer sees it by the ABORT, or by silence.
    offerer.listener.closed();
    assert!(ours.is_closed());
}

#[test]
fn no_more_channels_are_open_than_there_may_be() {
    let (offerer, answerer) = pair();
    for number in 0..64 {
        open(&offerer, &answerer, &number.to_string(), DataOptions::default());
    }
    let error = offerer.session.open_channel("one more", DataOptions::default()).unwrap_err();
    assert_eq!(error, DataError::TooMany(64));
    let error = answerer.session.open_channel("one more", DataOptions::default()).unwrap_err();
    assert_eq!(error, DataError::TooMany(64));
    offerer.session.channel("7").expect("a channel").close();
    assert_eq!(answerer.listener.closed(), ChannelEnd::ByPeer);
    assert_eq!(offerer.listener.closed(), ChannelEnd::Closed);
    open(&answerer, &offerer, "one more", DataOptions::default());
}

#[test]
fn who_takes_no_channels_refuses_them_and_hangs_up_on_a_flood() {
    let (here, there) = (Media::start(), Media::start());
    let asking = Listener::new();
    let offering = offer_data(&here, asking.clone());
    // As a session with media does that was offered channels as well.
    let video = "m=video 9 UDP/TLS/RTP/SAVPF 96\r\nc=IN IP4 0.0.0.0\r\na=mid:9\r\na=sendonly\r\na=rtcp-mux\r\n\
                 a=rtpmap:96 VP8/90000\r\n";
    let attributes: String = offering
        .sdp()
        .lines()
        .filter(|line| ["a=ice-", "a=setup"].iter().any(|start| line.starts_with(start)))
        .map(|line| format!("{line}\r\n"))
        .collect();
    let offer = format!("{}{video}{attributes}", offering.sdp());
    let answer = answer(&there, offer.replace("BUNDLE 0", "BUNDLE 0 9"), Terms::default());
    // The offerer knows nothing of the video.
    let sdp = answer.sdp.split("m=video").next().unwrap_or_default().replace("BUNDLE 0 9", "BUNDLE 0");
    let session = answered(&here, offering, sdp);
    let refused = |session: &Session| session.stats().data.refused;
    let unwanted = session.open_channel("unwanted", DataOptions::default()).expect("a channel");
    wait_until("the channel to be refused", SOON, || unwanted.is_closed().then_some(()));
    assert_eq!(refused(&answer.session), 1);
    let over = |session: &Session| session.state().is_over().then_some(());
    let mut opened = 1;
    while over(&answer.session).is_none() {
        let Ok(channel) = session.open_channel("unwanted", DataOptions::default()) else { break };
        opened += 1;
        wait_until("the channel to be refused", SOON, || {
            (channel.is_closed() || over(&answer.session).is_some()).then_some(())
        });
        assert!(opened < 100, "no end of it");
    }
    wait_until("the flood to end", SOON, || over(&answer.session));
    assert_eq!((refused(&answer.session), answer.session.state()), (64, ConnectionState::Failed));
}

/// What a pipeline would do: the message comes back reversed, the kind kept.
fn reversed(message: &DataMessage) -> DataMessage {
    match message {
        DataMessage::Text(text) => text.chars().rev().collect::<String>().into(),
        DataMessage::Binary(bytes) => bytes.iter().rev().copied().collect::<Vec<u8>>().into(),
    }
}

#[test]
fn by_an_adapter_a_message_goes_in_and_its_result_comes_back_out() {
    let (here, there) = (Media::start(), Media::start());
    let asking = Listener::new();
    let offering = offer_data(&here, asking.clone());
    let (mut adapter, sink) = Adapter::new();
    let answer = answer(&there, offering.sdp().to_owned(), Terms { sends: None, data: Some(sink) });
    let session = answered(&here, offering, answer.sdp);
    let replying = answer.session.clone();
    // On an executor of its own, as a program may have it.
    let program = std::thread::spawn(move || {
        let mut events = Vec::new();
        let doing = async {
            let own = replying.open_channel("of the program", DataOptions::default()).expect("a channel");
            own.send("begun").await.expect("a message is sent");
            while let Some(event) = adapter.next().await {
                match &event {
                    Event::Message(channel, message) => {
                        channel.send(reversed(message)).await.expect("a result is sent")
                    }
                    other => events.push(format!("{other:?}")),
                }
            }
        };
        gst::glib::MainContext::new().block_on(doing);
        events
    });
    assert_eq!(asking.opened().label(), "of the program");
    assert_eq!(asking.message(), "begun".into());
    let unreliable = DataOptions { ordered: false, reliability: Reliability::Retransmits(0), ..DataOptions::default() };
    for options in [DataOptions::default(), unreliable] {
        let channel = session.open_channel("work", options).expect("a channel");
        assert_eq!(asking.opened(), channel);
        for message in [DataMessage::from("text"), pattern(LARGEST_MESSAGE, 1).into(), "".into(), vec![1, 2, 3].into()]
        {
            let sending = (channel.clone(), message.clone());
            run(&here, async move { sending.0.send(sending.1).await.expect("a message is sent") });
            assert!(asking.message() == reversed(&message), "{} bytes", message.len());
        }
        // Faster than they are worked off: who sends waits, nothing is lost.
        let bulk = channel.clone();
        let sending = here.runtime.spawn(async move {
            for number in 0..100 {
                bulk.send(pattern(60_000, number)).await.expect("a message is sent");
            }
        });
        let mut missing: Vec<_> = (0..100).map(|number| reversed(&pattern(60_000, number).into())).collect();
        while !missing.is_empty() {
            let came = asking.message();
            let place = missing.iter().position(|message| *message == came).expect("a message that was sent");
            missing.remove(place);
        }
        assert!(sending.is_finished());
        channel.close();
        assert_eq!(asking.closed(), ChannelEnd::Closed);
    }
    let session = answer.session.clone();
    run(&there, async move { session.close(gstwebrtcbridge::session::EndReason::Shutdown).await });
    // The session is over, so the program is.
    let events = program.join().expect("the program");
    assert_eq!(events.iter().filter(|event| event.starts_with("Opened")).count(), 3, "{events:?}");
    assert_eq!(events.iter().filter(|event| event.starts_with("Closed")).count(), 3, "{events:?}");
}
