//! The life of one connection, event by event.

use super::*;

const BOTH: u32 = SHUTDOWN_RECEIVE | SHUTDOWN_SEND;

fn open() -> (Connection, Instant) {
    let header = Header {
        buf_alloc: 1000,
        ..Header::default()
    };
    let now = Instant::now();
    let mut connection = Connection::requested(&header);
    assert_eq!(connection.sendable(), 0, "payload before the response");
    assert_eq!(notice(&mut connection, now), Some((Operation::Response, 0)));
    assert_eq!(notice(&mut connection, now), None);
    (connection, now)
}

fn notice(connection: &mut Connection, now: Instant) -> Option<(Operation, u32)> {
    let notice = connection.notice(false, now)?;
    connection.announce();
    Some((notice.operation, notice.flags))
}

#[test]
fn guest_that_closed_both_directions_is_reset_once_its_bytes_are_forwarded() {
    let (mut connection, now) = open();
    connection.guest_shut(SHUTDOWN_SEND);
    assert_eq!(connection.fate(true, now), Fate::Lives);
    assert_eq!(connection.sendable(), 1000, "half closed, still receives");
    connection.guest_shut(SHUTDOWN_RECEIVE);
    assert_eq!(connection.sendable(), 0);
    assert_eq!(connection.fate(false, now), Fate::Lives);
    assert_eq!(connection.fate(true, now), Fate::Reset);
}

#[test]
fn flags_of_shutdowns_add_up() {
    let (mut connection, now) = open();
    connection.guest_shut(0);
    assert!(connection.guest_sends() && connection.guest_receives());
    connection.guest_shut(SHUTDOWN_RECEIVE);
    connection.guest_shut(0);
    connection.guest_shut(SHUTDOWN_SEND);
    assert_eq!(connection.fate(true, now), Fate::Reset);
}

#[test]
fn reset_of_the_guest_keeps_its_bytes_until_they_are_forwarded() {
    let (mut connection, now) = open();
    connection.guest_reset();
    assert_eq!(connection.fate(false, now), Fate::Lives);
    assert_eq!(notice(&mut connection, now), None);
    assert_eq!(connection.fate(true, now), Fate::Over);
}

#[test]
fn host_half_close_leaves_the_other_half_open() {
    let (mut connection, now) = open();
    connection.host_ended();
    assert_eq!(
        notice(&mut connection, now),
        Some((Operation::Shutdown, SHUTDOWN_SEND))
    );
    assert_eq!(notice(&mut connection, now), None);
    assert_eq!(connection.deadline(), None);
    assert!(connection.host_receives());
    let later = now + 10 * KILL_TIMEOUT;
    assert_eq!(connection.fate(true, later), Fate::Lives);
}

#[test]
fn closed_host_end_is_confirmed_by_the_guest_or_by_the_time_limit() {
    let (mut connection, now) = open();
    connection.sent(10);
    connection.host_ended();
    connection.host_stopped_reading();
    assert_eq!(
        notice(&mut connection, now),
        Some((Operation::Shutdown, BOTH))
    );
    assert_eq!(connection.fate(true, now), Fate::Lives);
    assert_eq!(connection.fate(true, now + KILL_TIMEOUT), Fate::Reset);
    connection.guest_reset();
    assert_eq!(connection.fate(true, now), Fate::Over);
}

#[test]
fn host_end_closed_before_it_sent_anything_refuses_the_connection() {
    let (mut connection, now) = open();
    connection.host_stopped_reading();
    assert_eq!(connection.fate(true, now), Fate::Lives);
    connection.host_ended();
    assert_eq!(connection.fate(true, now), Fate::Reset);
}

#[test]
fn bytes_without_a_reader_delay_nothing() {
    let (mut connection, now) = open();
    connection.host_stopped_reading();
    connection.guest_shut(BOTH);
    assert_eq!(connection.fate(false, now), Fate::Reset);
}

#[test]
fn credit_is_asked_for_once_and_told_when_asked() {
    let (mut connection, now) = open();
    connection.sent(1000);
    let stalled = connection.notice(true, now).unwrap();
    assert_eq!(stalled.operation, Operation::CreditRequest);
    assert_eq!(connection.notice(true, now), None);
    assert!(!connection.has_notice(true));

    connection.guest_announces(&Header {
        buf_alloc: 1000,
        fwd_cnt: 1,
        ..Header::default()
    });
    assert_eq!(connection.sendable(), 1);
    connection.sent(1);
    assert!(connection.has_notice(true), "a new stall is a new request");

    connection.guest_asks();
    assert_eq!(
        notice(&mut connection, now),
        Some((Operation::CreditUpdate, 0))
    );
    assert_eq!(notice(&mut connection, now), None);
}
