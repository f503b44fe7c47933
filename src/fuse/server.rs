//! [`Server`]: one mount. What the kernel asks, answered from the union with plain values.

use std::ffi::OsStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use super::ahead::Ahead;
use super::backing::Modes;
use super::counts::Counts;
use super::gate::{Gate, Parked, Pass};
use super::handles::Handles;
use super::ids::Ids;
use super::jobs::{Jobs, Task};
use super::notices::{Notice, Notices, Notifier};
use super::policy::{self, FOREVER, Lifetimes, Pages};
use super::step::{Cost, Step};
use super::survey::Survey;
use super::unopened::Unopened;
use super::views::Views;
use crate::error::{Errno, Error, Result};
use crate::name::{Name, NameBuf};
use crate::stat::{Stat, Timespec};
use crate::union::{Caller, Found, FsStat, Named, Node, NodeId, SetAttr, Union};

/// Threads for jobs.
const JOB_THREADS: usize = 16;

/// After so many forgotten nodes the memory that they had is given back.
const TRIM_AFTER: u64 = 1 << 16;

/// How long a hold waits for changes under way.
const PATIENCE: Duration = Duration::from_secs(60);

/// How a union is shown, beyond what it is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ServeOptions {
    /// Whom files are shown to belong to.
    pub ids: Ids,
    /// How long the kernel keeps names and attributes.
    pub lifetimes: Lifetimes,
    /// Directories are shown with one link.
    pub static_nlink: bool,
    /// There are no extended attributes.
    pub noxattrs: bool,
    /// Where nothing can change and nothing has extended attributes, the kernel is told to ask no more:
    /// getxattr(2) then says `EOPNOTSUPP` instead of `ENODATA`.
    pub spare_xattrs: bool,
    /// There are no ACLs.
    pub noacl: bool,
    /// Where the kernel keeps what is read, if nothing can change.
    pub pages: Pages,
    /// The tree of the lowers alone may be mounted beside.
    pub joint: bool,
}

/// One mount: the union, what is open in it, and what the kernel was told of it. `I` is the
/// transport's registration of a passthrough file.
pub struct Server<I> {
    pub(super) union: Arc<Union>,
    pub(super) handles: Handles,
    pub(super) modes: Modes<I>,
    pub(super) passthrough: AtomicBool,
    pub(super) notices: Notices,
    /// The kernel is told of nodeids and inode numbers apart.
    pub(super) numbers_apart: AtomicBool,
    options: ServeOptions,
    requests: Counts,
    pub(super) unopened: Unopened,
    pub(super) ahead: Ahead,
    pub(super) views: Views,
    /// How many nodes the kernel has forgotten.
    forgotten: AtomicU64,
    gate: Gate,
    jobs: Jobs,
    survey: Survey,
}

/// A name that was found or made.
#[derive(Debug, Clone, Copy)]
pub struct EntryReply {
    /// The kernel's handle.
    pub id: NodeId,
    /// The attributes, with the real `st_ino`.
    pub stat: Stat,
    /// How long the name holds.
    pub entry_lifetime: Duration,
    /// How long the attributes hold.
    pub attr_lifetime: Duration,
}

/// Attributes.
#[derive(Debug, Clone, Copy)]
pub struct AttrReply {
    /// The attributes.
    pub stat: Stat,
    /// How long they hold.
    pub lifetime: Duration,
}

/// Attributes, and when the file was made.
#[derive(Debug, Clone, Copy)]
pub struct StatxReply {
    /// The attributes.
    pub stat: Stat,
    /// When it was made, where that is known.
    pub born: Option<Timespec>,
    /// How long they hold.
    pub lifetime: Duration,
}

/// What getxattr(2) and listxattr(2) get.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum XattrReply {
    /// Only the length was asked for, in bytes.
    Size(u32),
    /// The value, or the names, each with a NUL.
    Data(Vec<u8>),
}

/// Figures of a running mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServerStatus {
    /// Nodes in memory.
    pub nodes: usize,
    /// Open files and directories.
    pub handles: usize,
    /// Files with open handles.
    pub files: usize,
    /// Requests that were answered; FORGET, RELEASE and FLUSH don't count.
    pub requests: u64,
    /// Whether files are passed through.
    pub passthrough: bool,
    /// Whether changes are held.
    pub held: bool,
}

impl<I: Send + Sync + 'static> Server<I> {
    /// A server for a union. Nothing is passed through until [`Server::allow_passthrough`].
    #[must_use]
    pub fn new(union: Arc<Union>, options: ServeOptions) -> Arc<Self> {
        let several = std::thread::available_parallelism().is_ok_and(|n| n.get() > 1);
        let ahead = Ahead::new(several && union.is_worth_reading_ahead(), several);
        let survey = Survey::new(options.spare_xattrs && union.is_read_only());
        Arc::new(Self {
            survey,
            union,
            options,
            handles: Handles::default(),
            modes: Modes::default(),
            passthrough: AtomicBool::new(false),
            notices: Notices::default(),
            numbers_apart: AtomicBool::new(false),
            requests: Counts::default(),
            unopened: Unopened::default(),
            ahead,
            views: Views::default(),
            forgotten: AtomicU64::new(0),
            gate: Gate::default(),
            jobs: Jobs::new(JOB_THREADS),
        })
    }

    /// How it is shown.
    #[must_use]
    pub fn options(&self) -> &ServeOptions {
        &self.options
    }

    /// The tree that is served.
    #[must_use]
    pub fn union(&self) -> &Arc<Union> {
        &self.union
    }

    /// The transport and the kernel can pass files through.
    pub fn allow_passthrough(&self) {
        self.passthrough.store(true, Ordering::Relaxed);
    }

    /// The kernel can do without opening directories.
    pub fn spare_opendir(&self) {
        self.unopened.spare_dirs();
    }

    /// The kernel can do without opening files. It does where that is wanted and none can change; none
    /// is passed through then.
    pub fn spare_open(&self) {
        if self.options.pages == Pages::Own && self.union.is_read_only() {
            self.unopened.spare_files();
            self.passthrough.store(false, Ordering::Relaxed);
        }
    }

    /// Whether OPEN is answered by `ENOSYS`, and then not asked again.
    #[must_use]
    pub fn spares_open(&self) -> bool {
        self.unopened.files()
    }

    /// Whether OPENDIR is.
    #[must_use]
    pub fn spares_opendir(&self) -> bool {
        self.unopened.dirs()
    }

    /// Whether GETXATTR of this name is: the kernel says `EOPNOTSUPP` from then on. An ACL that it asks
    /// for itself is denied as ever, as that one answer would refuse somebody access.
    #[must_use]
    pub fn spares_xattr(&self, name: &OsStr) -> bool {
        self.options.noxattrs || (self.survey.found_none() && !is_acl(name))
    }

    /// Whether LISTXATTR is.
    #[must_use]
    pub fn spares_xattrs(&self) -> bool {
        self.options.noxattrs || self.survey.found_none()
    }

    /// The transport tells the kernel a file's inode number beside its nodeid.
    pub fn tell_numbers_apart(&self) {
        self.numbers_apart.store(true, Ordering::Relaxed);
    }

    /// How the kernel is told what it has not asked for. Without it, files of lowers are not passed
    /// through where they can be copied up.
    pub fn notify_by(&self, notifier: impl Notifier) {
        self.notices.start(notifier);
    }

    /// Gives the name of a file whose open handles the kernel reads from the lower's file a new node,
    /// for what is not to be read from there. The kernel looks the name up again when it gets the
    /// error, and goes on with the new node.
    pub(super) fn leave_lower(&self, node: &Arc<Node>, id: NodeId) -> Error {
        if self.union.renumber(node, id) {
            self.notices.send(Notice::Attributes(id));
            for (parent, name) in node.known_names() {
                self.notices.send(Notice::Name(parent, name));
            }
        }
        Error::with(
            Errno::ESTALE,
            "the file is read from a lower under this number",
        )
    }

    /// Counts a request.
    pub(super) fn count(&self, operation: &str) {
        self.requests.add(operation);
    }

    /// How many requests there were, by operation.
    #[must_use]
    pub fn requests(&self) -> Vec<(&'static str, u64)> {
        self.requests.all()
    }

    /// How many requests of one operation there were.
    #[must_use]
    pub fn requests_of(&self, operation: &str) -> u64 {
        self.requests.of(operation)
    }

    /// Does something on a thread of the pool.
    pub fn run_job(&self, task: Task) {
        self.jobs.run(task);
    }

    /// Runs a change when changes are allowed again.
    pub fn run_parked(&self, change: Parked) {
        if let Some((change, pass)) = self.gate.park(change) {
            self.jobs.run(Box::new(move || change(pass)));
        }
    }

    /// Lets changes under way finish and parks new ones. Writes through passthrough handles and
    /// mappings can't be held.
    ///
    /// # Errors
    /// `EBUSY` when changes are held already; `ETIMEDOUT` when some don't end, and then nothing is
    /// held.
    pub fn hold(&self) -> Result<()> {
        let held = self.gate.hold(PATIENCE);
        if held.as_ref().is_err_and(|e| e.errno() == Errno::ETIMEDOUT) {
            self.release();
        }
        held
    }

    /// Allows changes again.
    pub fn release(&self) {
        for (change, pass) in self.gate.release() {
            self.jobs.run(Box::new(move || change(pass)));
        }
    }

    /// Figures.
    #[must_use]
    pub fn status(&self) -> ServerStatus {
        ServerStatus {
            nodes: self.union.node_count(),
            handles: self.handles.len(),
            files: self.modes.len(),
            requests: self.requests.all().iter().map(|(_, count)| count).sum(),
            passthrough: self.passthrough.load(Ordering::Relaxed),
            held: self.gate.is_held(),
        }
    }

    /// Runs a change: here, as a job, or when changes are allowed again.
    pub(super) fn change<R: 'static, D>(
        self: &Arc<Self>,
        cost: Cost,
        device: &D,
        work: impl FnOnce(&Self, &D) -> Result<R> + Send + 'static,
    ) -> Step<R, D> {
        let through = |server: &Self, device: &D, pass: Pass| {
            let result = work(server, device);
            server.drop_view_listings();
            drop(pass);
            result
        };
        match (self.gate.enter(), cost) {
            (Some(pass), Cost::Quick) => Step::Done(through(self, device, pass)),
            (Some(pass), Cost::Slow) => {
                let server = Arc::clone(self);
                Step::Later(Box::new(move |device| through(&server, device, pass)))
            }
            (None, _) => {
                let server = Arc::clone(self);
                Step::Parked(Box::new(move |device, pass| through(&server, device, pass)))
            }
        }
    }

    /// A pass for a change that is done at once.
    pub(super) fn pass(&self) -> Option<Pass> {
        self.gate.enter()
    }

    /// A job that changes nothing.
    pub(super) fn later<R>(
        self: &Arc<Self>,
        work: impl FnOnce(&Self) -> Result<R> + Send + 'static,
    ) -> Step<R> {
        let server = Arc::clone(self);
        Step::Later(Box::new(move |()| work(&server)))
    }

    /// An entry for a node on which the kernel now has one reference more.
    pub(super) fn entry(&self, found: &Found) -> EntryReply {
        self.named(Named {
            id: found.node.id(),
            stat: found.stat,
        })
    }

    /// The same, for a node that may not be in memory.
    pub(super) fn named(&self, found: Named) -> EntryReply {
        let stores = self.modes.stores(found.id);
        let attributes = match self.numbers_apart.load(Ordering::Relaxed) {
            true => policy::attributes(stores),
            false => policy::entry_attributes(found, stores),
        };
        EntryReply {
            id: found.id,
            stat: self.shown(found.stat),
            entry_lifetime: self.options.lifetimes.entry,
            attr_lifetime: attributes.min(self.options.lifetimes.attr),
        }
    }

    /// Attributes as they are shown.
    fn shown(&self, stat: Stat) -> Stat {
        let mut stat = self.options.ids.stat(stat);
        if self.options.static_nlink && stat.is_dir() {
            stat.nlink = 1;
        }
        stat
    }

    /// LOOKUP. `None`: there is no such name, and that too holds for ever. `.` and `..` are asked for
    /// by open_by_handle_at(2) and NFS.
    ///
    /// # Errors
    /// `ESTALE` for an unknown parent, `ENAMETOOLONG`; `ENOENT` for a name that doesn't exist, where
    /// the kernel is not to keep that; what the union reports.
    pub fn lookup(self: &Arc<Self>, parent: NodeId, name: &OsStr) -> Result<Option<EntryReply>> {
        let parent = self.union.get(parent)?;
        let found = match name.as_encoded_bytes() {
            b"." => return Ok(Some(self.entry(&self.union.again(&parent)?))),
            b".." => return Ok(Some(self.entry(&self.union.parent(&parent)?))),
            _ => {
                let name = Name::new(name)?;
                if let Some(view) = self.view_by(parent.id(), name)? {
                    return Ok(Some(view));
                }
                self.union.lookup_name(&parent, name)?
            }
        };
        match found {
            None if self.options.lifetimes.absent < FOREVER => Err(Errno::ENOENT.into()),
            found => Ok(found.map(|found| {
                if found.stat.is_dir() {
                    self.entered(found.id);
                }
                self.named(found)
            })),
        }
    }

    /// FORGET: the kernel gives back references.
    pub fn forget(&self, node: NodeId, count: u64) {
        self.union.forget(node, count);
        if !self.union.has(node) {
            self.modes.forget(node);
            self.unopened.forget(node);
            self.ahead.forget(node);
            self.views.forget(node);
            let before = self.forgotten.fetch_add(1, Ordering::Relaxed);
            if before % TRIM_AFTER == TRIM_AFTER - 1 {
                self.jobs.run(Box::new(crate::sys::heap::trim));
            }
        }
    }

    /// GETATTR.
    ///
    /// # Errors
    /// `ESTALE`; what the union reports.
    pub fn getattr(&self, id: NodeId) -> Result<AttrReply> {
        let node = self.union.get(id)?;
        let stat = self.union.getattr(&node)?;
        Ok(self.attr(&node, id, stat))
    }

    /// STATX
    ///
    /// # Errors
    /// As [`Server::getattr`].
    pub fn statx(&self, id: NodeId) -> Result<StatxReply> {
        let node = self.union.get(id)?;
        let attr = self.attr(&node, id, self.union.getattr(&node)?);
        Ok(StatxReply {
            stat: attr.stat,
            born: self.union.birth_time(&node)?,
            lifetime: attr.lifetime,
        })
    }

    /// SYNCFS
    pub fn syncfs(self: &Arc<Self>) -> Step<()> {
        self.later(|server| server.union.sync())
    }

    /// Attributes of a node that the kernel calls `id`. Under a number that it has left, what it
    /// becomes is not told.
    fn attr(&self, node: &Node, id: NodeId, stat: Stat) -> AttrReply {
        let lifetime = match node.id() == id {
            true => policy::attributes(self.modes.stores(id)).min(self.options.lifetimes.attr),
            false => Duration::ZERO,
        };
        AttrReply {
            stat: self.shown(stat),
            lifetime,
        }
    }

    /// SETATTR. An empty request is the kernel's way to ask for setuid and setgid to be cleared
    /// (HANDLE_KILLPRIV_V2).
    pub fn setattr(
        self: &Arc<Self>,
        id: NodeId,
        mut set: SetAttr,
        handle: Option<u64>,
        caller: Caller,
    ) -> Step<AttrReply> {
        set.kill_priv |= set == SetAttr::default();
        let node = match self.union.get(id) {
            Ok(node) => node,
            Err(e) => return Step::Done(Err(e)),
        };
        let set = match self.options.ids.set(set) {
            Ok(set) => set,
            Err(e) => return Step::Done(Err(e)),
        };
        if set.size.is_some() && self.modes.is_lower(id) {
            return Step::Done(Err(self.leave_lower(&node, id)));
        }
        let cost = match set.size {
            Some(_) => Ok(self.copy_cost(&node)),
            None => self.attribute_cost(&node),
        };
        let cost = match cost {
            Ok(cost) => cost,
            Err(e) => return Step::Done(Err(e)),
        };
        self.change(cost, &(), move |server, ()| {
            let handle = handle.and_then(|fh| server.handles.get(fh).ok());
            let file = handle.as_ref().and_then(|h| h.writer.as_deref());
            let stat = server.union.setattr(&node, &set, caller, file)?;
            if set.size.is_some() && server.modes.is_lower(id) {
                // Opened while it was copied up: who opens it from here on is to see the change.
                drop(server.leave_lower(&node, id));
            }
            Ok(server.attr(&node, id, stat))
        })
    }

    /// READLINK.
    ///
    /// # Errors
    /// `ESTALE`, `EINVAL`; what the union reports.
    pub fn readlink(&self, node: NodeId) -> Result<Vec<u8>> {
        self.union.read_link(&*self.union.get(node)?)
    }

    /// STATFS.
    ///
    /// # Errors
    /// What the file system below reports.
    pub fn statfs(&self, thread: u32) -> Result<FsStat> {
        self.views.asked(thread);
        self.union.statfs()
    }

    /// GETXATTR; `size` is the room for the value in bytes, 0 to ask for its length.
    ///
    /// # Errors
    /// `ENODATA`, `ERANGE`; what the union reports.
    pub fn getxattr(&self, node: NodeId, name: &OsStr, size: u32) -> Result<XattrReply> {
        self.check_xattr(name)?;
        if self.union.lacks_xattr(node, name) {
            self.survey.asked_in_vain(&self.union);
            return Err(Errno::ENODATA.into());
        }
        let node = self.union.get(node)?;
        let mut value = self.union.xattr(&node, name)?.ok_or(Errno::ENODATA)?;
        if is_acl(name) && !self.options.ids.is_plain() {
            value = self.options.ids.acl_shown(value);
        }
        sized(value, size)
    }

    /// LISTXATTR; `size` as for [`Server::getxattr`]. Only a privileged caller is shown names of
    /// `trusted.` (xattr(7)).
    ///
    /// # Errors
    /// `ERANGE`; what the union reports.
    pub fn listxattr(&self, node: NodeId, size: u32, caller: Caller) -> Result<XattrReply> {
        if self.options.noxattrs {
            return Err(Errno::EOPNOTSUPP.into());
        }
        if self.union.lacks_xattrs(node) {
            self.survey.asked_in_vain(&self.union);
            return sized(Vec::new(), size);
        }
        let node = self.union.get(node)?;
        let mut list = Vec::new();
        for name in self.union.xattr_names(&node)? {
            if caller.uid == 0 || !name.starts_with(b"trusted.") {
                list.extend_from_slice(&name);
                list.push(0);
            }
        }
        sized(list, size)
    }
}

impl<I> Server<I> {
    /// Whether there may be an attribute of this name.
    pub(super) fn check_xattr(&self, name: &OsStr) -> Result<()> {
        let off = self.options.noxattrs || (self.options.noacl && is_acl(name));
        if off {
            Err(Errno::EOPNOTSUPP.into())
        } else {
            Ok(())
        }
    }
}

/// Whether an attribute has ids in it.
pub(super) fn is_acl(name: &OsStr) -> bool {
    name.as_encoded_bytes().starts_with(b"system.posix_acl_")
}

fn sized(data: Vec<u8>, room: u32) -> Result<XattrReply> {
    let len = u32::try_from(data.len()).map_err(|_| Error::new(Errno::E2BIG))?;
    match room {
        0 => Ok(XattrReply::Size(len)),
        room if len > room => Err(Error::new(Errno::ERANGE)),
        _ => Ok(XattrReply::Data(data)),
    }
}

/// A name that outlives its request.
pub(super) fn owned(name: &OsStr) -> Result<NameBuf> {
    NameBuf::new(name.as_encoded_bytes())
}
