"""podman's and docker's own storage for one contender, in a directory of its own."""

import os
import shutil
import subprocess
from pathlib import Path

from host import RUN, Failed, wait_for

CONTAINERS_CONF = """[containers]
default_ulimits = ["nofile=1024:20000", "nproc=4096:4096"]
netns = "host"
log_driver = "k8s-file"
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
runtime = "runc"
"""


def podman(place, driver="overlay", mount_program=None):
    """The words that a podman command starts with; its images and containers lie at a place."""
    conf = RUN / "containers.conf"
    conf.write_text(CONTAINERS_CONF)
    os.environ["CONTAINERS_CONF"] = str(conf)
    words = ["podman", "--root", f"{place}/root", "--runroot", RUN / "podman", "--storage-driver", driver]
    # What an earlier contender's run time state says is not true any more.
    shutil.rmtree(RUN / "podman", ignore_errors=True)
    shutil.rmtree("/run/libpod", ignore_errors=True)
    words += ["--tmpdir", RUN / "podman-tmp"]
    shutil.rmtree(RUN / "podman-tmp", ignore_errors=True)
    if mount_program:
        words += ["--storage-opt", f"overlay.mount_program={mount_program}"]
    return [str(w) for w in [*words, "--cgroup-manager=cgroupfs"]]


class Dockerd:
    """dockerd on a directory, without networks."""

    def __init__(self, place):
        self.socket = RUN / "docker.sock"
        (RUN / "daemon.json").write_text("{}\n")
        words = ["dockerd", "--data-root", f"{place}/docker", "--exec-root", RUN / "docker-exec"]
        words += ["-H", f"unix://{self.socket}", "--pidfile", RUN / "docker.pid", "--iptables=false"]
        words += ["--ip6tables=false", "--bridge=none", "--config-file", RUN / "daemon.json"]
        words += ["--storage-driver", "overlay2"]
        (RUN / "docker.pid").unlink(missing_ok=True)
        self.log = open(RUN / "dockerd.log", "wb")
        self.process = subprocess.Popen(words, stdout=self.log, stderr=self.log, start_new_session=True)
        self.words = ["/usr/bin/docker", "-H", f"unix://{self.socket}"]
        try:
            wait_for(self.answers, 60, "dockerd")
        except Failed:
            self.stop()
            raise

    def answers(self):
        if self.process.poll() is not None:
            lines = (RUN / "dockerd.log").read_text(errors="replace").strip().splitlines()
            raise Failed(f"dockerd ended: {lines[-1] if lines else 'no message'}")
        return subprocess.run([*self.words, "version"], capture_output=True).returncode == 0

    def peak_kib(self):
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1])
        return 0

    def stop(self):
        self.process.terminate()
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.log.close()
