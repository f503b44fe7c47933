//! Requests as bytes, without a kernel.

use std::sync::mpsc::{Sender, channel};

use zerocopy::IntoBytes as _;

use super::*;
use crate::fuse::server::ServeOptions;
use crate::fuse::wire::{FIXED_MOST, fixed_len};
use crate::layer::dir::{DirForms, DirLayer};
use crate::layer::format::MarkSpace;
use crate::union::{Union, UnionOptions, Upper};

/// A server over one directory with a file `f`, on a device that is none.
fn context(owner: Option<u32>) -> (tempfile::TempDir, Arc<Context>) {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("f"), b"contents").unwrap();
    let layer = DirLayer::open(dir.path(), DirForms::default()).unwrap();
    let union = Union::new(vec![Arc::new(layer)], None, UnionOptions::default()).unwrap();
    (dir, context_of(union, owner))
}

fn context_of(union: Arc<Union>, owner: Option<u32>) -> Arc<Context> {
    let null = std::fs::File::options().write(true).open("/dev/null");
    Arc::new(Context {
        server: Server::new(union, ServeOptions::default()),
        device: Arc::new(Device::new(null.unwrap().into())),
        owner,
        pending: Pending::default(),
    })
}

fn header(opcode: u32, nodeid: u64) -> InHeader {
    InHeader {
        opcode,
        unique: 2,
        nodeid,
        ..InHeader::default()
    }
}

fn ask(context: &Context, opcode: u32, fixed: &[u8], payload: &[u8]) -> (Reply, Vec<u8>) {
    let mut area = vec![0; 1 << 16];
    area[..payload.len()].copy_from_slice(payload);
    let header = header(opcode, 1);
    match context.dispatch(&header, fixed, &mut area, payload.len()) {
        Outcome::Reply(reply) => {
            area.truncate(reply.unwrap_or(0));
            (reply, area)
        }
        Outcome::None | Outcome::Deferred(_) => panic!("an answer was expected"),
    }
}

#[test]
fn a_file_is_found_opened_and_read_in_place() {
    let (_dir, context) = context(None);
    let (_, entry) = ask(&context, op::LOOKUP, &[], b"f\0");
    let entry: wire::EntryOut = read(&entry).unwrap();
    assert_eq!((entry.attr.size, entry.attr.nlink), (8, 1));
    let (_, absent) = ask(&context, op::LOOKUP, &[], b"none\0");
    assert_eq!(read::<wire::EntryOut>(&absent).unwrap().nodeid, 0);
    let open = wire::OpenIn::default();
    let mut area = [0; 128];
    let head = header(op::OPEN, entry.nodeid);
    let Outcome::Reply(Ok(len)) = context.dispatch(&head, open.as_bytes(), &mut area, 0) else {
        panic!("not opened")
    };
    let opened: wire::OpenOut = read(&area[..len]).unwrap();
    let ask_for = |offset, size| wire::ReadIn {
        fh: opened.fh,
        offset,
        size,
        ..wire::ReadIn::default()
    };
    let (reply, data) = ask(&context, op::READ, ask_for(3, 100).as_bytes(), &[]);
    assert_eq!((reply, data.as_slice()), (Ok(5), b"tents".as_slice()));
    let (_, data) = ask(&context, op::READ, ask_for(0, 3).as_bytes(), &[]);
    assert_eq!(data, b"con");
    let release = wire::ReleaseIn {
        fh: opened.fh,
        ..wire::ReleaseIn::default()
    };
    assert_eq!(ask(&context, op::RELEASE, release.as_bytes(), &[]).0, Ok(0));
    let (reply, _) = ask(&context, op::READ, ask_for(0, 3).as_bytes(), &[]);
    assert_eq!(reply, Err(libc::EBADF));
}

#[test]
fn short_and_strange_requests_are_refused() {
    let (_dir, context) = context(None);
    let refused = |opcode, fixed: &[u8], payload: &[u8]| ask(&context, opcode, fixed, payload).0;
    assert_eq!(refused(op::LOOKUP, &[], b"no end"), Err(libc::EINVAL));
    assert_eq!(refused(op::LOOKUP, &[], b"a/b\0"), Err(libc::EINVAL));
    assert_eq!(refused(op::GETXATTR, &[], b"x\0"), Err(libc::EINVAL));
    assert_eq!(refused(op::RENAME2, &[0; 15], b"a\0b\0"), Err(libc::EINVAL));
    assert_eq!(
        refused(op::SYMLINK, &[], b"name\0target"),
        Err(libc::EINVAL)
    );
    let more = wire::WriteIn {
        size: 9,
        ..wire::WriteIn::default()
    };
    assert_eq!(
        refused(op::WRITE, more.as_bytes(), b"8 bytes."),
        Err(libc::EINVAL)
    );
    let more = wire::SetxattrIn {
        size: 3,
        ..wire::SetxattrIn::default()
    };
    assert_eq!(
        refused(op::SETXATTR, more.as_bytes(), b"user.x\0ab"),
        Err(libc::EINVAL)
    );
    assert_eq!(refused(4711, &[], &[]), Err(libc::ENOSYS));
    assert_eq!(refused(op::IOCTL, &[], &[]), Err(libc::ENOTTY));
}

#[test]
fn whatever_a_request_holds_the_answer_is_an_answer() {
    let (_dir, context) = context(None);
    let mut random = 1_u64;
    let mut next = || {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(99);
        (random >> 33) as u8
    };
    for round in 0..20_000_u32 {
        let opcode = round % 60;
        let mut fixed = [0; FIXED_MOST];
        // Numbers are mostly small, as handles and lengths are.
        fixed.fill_with(|| if next() % 4 == 0 { next() } else { 0 });
        let cut = match next() % 4 {
            0 => usize::from(next()) % FIXED_MOST,
            _ => fixed_len(opcode),
        };
        let mut area = vec![0; usize::from(next()) * 8];
        let len = usize::from(next()).min(area.len());
        area[..len].fill_with(|| if next() % 3 == 0 { 0 } else { b'f' });
        let head = header(opcode, u64::from(next() % 3));
        let said = context.dispatch(&head, &fixed[..cut], &mut area, len);
        if let Outcome::Reply(Ok(len)) = said {
            assert!(len <= area.len());
        }
    }
}

#[test]
fn a_mount_for_its_owner_refuses_others() {
    let (_dir, context) = context(Some(1000));
    let as_user = |uid| {
        let head = InHeader {
            uid,
            ..header(op::GETATTR, 1)
        };
        match context.dispatch(&head, &[], &mut [0; 256], 0) {
            Outcome::Reply(reply) => reply,
            _ => panic!("an answer was expected"),
        }
    };
    assert_eq!(as_user(0), as_user(1000));
    assert!(as_user(0).is_ok());
    assert_eq!(as_user(1001), Err(libc::EACCES));
}

struct Told(Sender<Reply>);

impl Slot for Told {
    fn area(&mut self) -> &mut [u8] {
        &mut []
    }
    fn answer(self, reply: Reply) {
        self.0.send(reply).unwrap();
    }
}

#[test]
fn who_lives_waits_for_the_answer() {
    let (_dir, context) = context(None);
    let (tell, told) = channel();
    for interruptible in [true, false] {
        let (go, gate) = channel::<()>();
        let job = Deferred::Job {
            work: Box::new(move |_| {
                gate.recv().ok();
                Box::new(|_| Ok(0))
            }),
            room: 0,
            interruptible,
        };
        let head = InHeader {
            pid: std::process::id(),
            unique: 4,
            ..header(op::READ, 1)
        };
        context.defer(&head, Told(tell.clone()), job);
        let interrupt = wire::InterruptIn { unique: 4 };
        let said = context.dispatch(&header(op::INTERRUPT, 0), interrupt.as_bytes(), &mut [], 0);
        assert!(matches!(said, Outcome::None));
        assert!(told.try_recv().is_err());
        go.send(()).unwrap();
        assert_eq!(told.recv().unwrap(), Ok(0));
    }
}

#[test]
fn a_short_copy_is_made_at_once_and_a_long_one_by_a_job() {
    let dir = tempfile::tempdir().unwrap();
    let [lower, upper, work] = ["lower", "upper", "work"].map(|name| dir.path().join(name));
    for dir in [&lower, &upper, &work] {
        std::fs::create_dir(dir).unwrap();
    }
    std::fs::write(lower.join("short"), b"contents").unwrap();
    std::fs::write(lower.join("long"), vec![7; 3 << 20]).unwrap();
    std::fs::write(upper.join("sink"), b"").unwrap();
    let layer = DirLayer::open(&lower, DirForms::default()).unwrap();
    let opened = Upper::open(&upper, &work, MarkSpace::User, true).unwrap();
    let options = UnionOptions::default();
    let union = Union::new(vec![Arc::new(layer)], Some(opened), options).unwrap();
    let context = context_of(union, None);
    let open = |name: &str, flags: i32| {
        let (_, entry) = ask(&context, op::LOOKUP, &[], format!("{name}\0").as_bytes());
        let entry: wire::EntryOut = read(&entry).unwrap();
        let open = wire::OpenIn {
            flags,
            ..wire::OpenIn::default()
        };
        let (mut area, head) = ([0; 128], header(op::OPEN, entry.nodeid));
        let outcome = context.dispatch(&head, open.as_bytes(), &mut area, 0);
        let Outcome::Reply(Ok(len)) = outcome else {
            panic!("{name} is not opened")
        };
        read::<wire::OpenOut>(&area[..len]).unwrap().fh
    };
    let sink = open("sink", libc::O_WRONLY);
    let [short, long] = ["short", "long"].map(|name| open(name, libc::O_RDONLY));
    // As cp(1) asks: until the end.
    let copy = |from, len| wire::CopyFileRangeIn {
        fh_in: from,
        fh_out: sink,
        len,
        ..wire::CopyFileRangeIn::default()
    };
    for (from, len, copied) in [(short, u64::MAX >> 1, 8), (long, 1 << 20, 1 << 20)] {
        let (_, out) = ask(
            &context,
            op::COPY_FILE_RANGE,
            copy(from, len).as_bytes(),
            &[],
        );
        assert_eq!(read::<u32>(&out).unwrap(), copied);
    }
    let (args, head) = (copy(long, u64::MAX >> 1), header(op::COPY_FILE_RANGE, 1));
    let outcome = context.dispatch(&head, args.as_bytes(), &mut [0; 128], 0);
    assert!(matches!(outcome, Outcome::Deferred(Deferred::Job { .. })));
}
