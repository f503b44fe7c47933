//! Which threads serve which processors' queues.

use std::path::Path;

/// One thread and its queues.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ThreadPlan {
    /// The processor that it stays on.
    pub pin: Option<usize>,
    /// Its queues, by their processor's number, with the number of entries of each.
    pub queues: Vec<(u16, usize)>,
}

impl ThreadPlan {
    pub fn entries(&self) -> usize {
        self.queues.iter().map(|(_, depth)| depth).sum()
    }
}

/// The processors as far as they matter here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Processors {
    /// How many there can be; the kernel wants a queue for each.
    pub possible: usize,
    /// Those that run.
    pub online: Vec<usize>,
    /// Those on which this process may run.
    pub allowed: Vec<usize>,
}

/// Entries of all queues together: slow requests take one each, and it costs nothing until it is
/// used.
const ENTRIES: usize = 512;

/// Entries of one queue.
const DEPTH: (usize, usize) = (16, 128);

/// Entries of a queue whose processor doesn't run.
const OFFLINE: usize = 4;

impl Processors {
    /// Those of this machine, for this process.
    pub fn here() -> Self {
        let possible = possible();
        let all = || (0..possible).collect::<Vec<_>>();
        let listed = |name: &str| {
            let path = Path::new("/sys/devices/system/cpu").join(name);
            let text = std::fs::read_to_string(path).ok()?;
            Some(parse_list(text.trim()))
        };
        let allowed = rustix::thread::sched_getaffinity(None).map(|set| {
            let range = 0..possible.min(rustix::thread::CpuSet::MAX_CPU);
            range.filter(|cpu| set.is_set(*cpu)).collect()
        });
        Self {
            possible,
            online: listed("online")
                .filter(|l| !l.is_empty())
                .unwrap_or_else(all),
            allowed: allowed.unwrap_or_else(|_| all()),
        }
    }

    /// A pinned thread for each processor that we may run on; the queues of the others on as many
    /// threads that go where they can.
    pub fn plan(&self) -> Vec<ThreadPlan> {
        let online = |cpu: &usize| self.online.contains(cpu);
        let ours = |cpu: &usize| online(cpu) && self.allowed.contains(cpu);
        let running = (0..self.possible).filter(online).count().max(1);
        let depth = (ENTRIES / running).clamp(DEPTH.0, DEPTH.1);
        let depth_of = |cpu: usize| if online(&cpu) { depth } else { OFFLINE };
        let queue = |cpu: usize| Some((u16::try_from(cpu).ok()?, depth_of(cpu)));
        let pinned = (0..self.possible).filter(ours).map(|cpu| ThreadPlan {
            pin: Some(cpu),
            queues: queue(cpu).into_iter().collect(),
        });
        let mut threads: Vec<ThreadPlan> = pinned.collect();
        let others: Vec<usize> = (0..self.possible).filter(|cpu| !ours(cpu)).collect();
        let free = others.iter().filter(|cpu| online(cpu)).count();
        let free = free.min(threads.len().max(2));
        let mut unpinned = vec![
            ThreadPlan {
                pin: None,
                queues: Vec::new(),
            };
            free
        ];
        // Nobody asks from a processor that doesn't run, until it does.
        for (turn, cpu) in others.into_iter().enumerate() {
            let to = if online(&cpu) || threads.is_empty() {
                &mut unpinned
            } else {
                &mut threads
            };
            let at = turn % to.len().max(1);
            if let Some(thread) = to.get_mut(at) {
                thread.queues.extend(queue(cpu));
            }
        }
        threads.append(&mut unpinned);
        threads
    }
}

/// How many processors the kernel has room for (`num_possible_cpus`).
fn possible() -> usize {
    let path = "/sys/devices/system/cpu/possible";
    let listed = std::fs::read_to_string(path).map(|text| parse_list(text.trim()));
    let last = listed.ok().and_then(|list| list.into_iter().max());
    let running = || std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    last.map_or_else(running, |last| last + 1)
}

/// Reads `0-3,8,10-11`.
fn parse_list(text: &str) -> Vec<usize> {
    let mut list = Vec::new();
    for part in text.split(',') {
        let (from, to) = part.split_once('-').unwrap_or((part, part));
        if let (Ok(from), Ok(to)) = (from.parse::<usize>(), to.parse::<usize>()) {
            list.extend(from..=to.min(from + (1 << 16)));
        }
    }
    list
}

#[cfg(test)]
mod tests {
    use super::*;

    fn processors(possible: usize, online: &str, allowed: &str) -> Processors {
        Processors {
            possible,
            online: parse_list(online),
            allowed: parse_list(allowed),
        }
    }

    #[test]
    fn every_possible_processor_has_a_queue() {
        for (possible, online, allowed) in [
            (2, "0-1", "0-1"),
            (2, "0-1", "1"),
            (64, "0-63", "3,7"),
            (240, "0-1", "0-1"),
            (240, "0,5", "5"),
            (8, "0-7", "9"),
            (1, "0", ""),
        ] {
            let plan = processors(possible, online, allowed).plan();
            let queues = plan.iter().flat_map(|t| &t.queues);
            let mut served: Vec<u16> = queues.map(|(cpu, _)| *cpu).collect();
            served.sort_unstable();
            let all: Vec<u16> = (0..possible as u16).collect();
            assert_eq!(served, all, "{possible} {online} {allowed}");
            assert!(plan.iter().all(|t| t.entries() > 0), "{plan:?}");
            assert!(plan.iter().map(ThreadPlan::entries).sum::<usize>() <= 64 * 16 + 1024);
        }
    }

    #[test]
    fn threads_stay_where_they_may() {
        let plan = processors(4, "0-3", "1,2").plan();
        let pins: Vec<_> = plan.iter().map(|t| t.pin).collect();
        assert_eq!(pins, [Some(1), Some(2), None, None]);
        let plan = processors(240, "0-1", "0-1").plan();
        assert_eq!(plan.len(), 2);
        assert_eq!(parse_list("0-2,5,7-8"), [0, 1, 2, 5, 7, 8]);
        assert!(parse_list("").is_empty());
        let here = Processors::here();
        assert!(here.possible > 0 && !here.plan().is_empty(), "{here:?}");
    }
}
