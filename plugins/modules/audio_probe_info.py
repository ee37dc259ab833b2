#!/usr/bin/python
# Copyright (c) The tracktion.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: audio_probe_info
short_description: Measure whether audio files can be processed, where the audio service runs
version_added: 0.3.0
description:
  - Runs a program in the container of the audio service, as its user and with its interpreter, or with an interpreter of this machine. The
    program is one argument of the interpreter and requires only Python 3.8 with its standard library. It writes to no file.
  - By default it imports nothing of the service, and measures the library of music (mounted, not empty, readable), the temporary directory,
    the memory limit, whether the audio library is installed, and settings. From the log of the container, it names the files that failed.
  - With O(deep) it imports the audio library, decodes a reference file of each format, and runs the detectors of tempo and key on references
    that it makes in memory. With O(files) it examines named files.
  - Each of these steps runs in a child process with limits of time and memory. A crash, a hang and the lack of memory are results. A child
    process is killed before the service if the memory of the container runs out.
author:
  - The tracktion.ops maintainers (@tracktion)
extends_documentation_fragment:
  - tracktion.ops._attributes
  - tracktion.ops._measurement
  - tracktion.ops._attributes.info_module
  - tracktion.ops._attributes.actiongroup
  - tracktion.ops._docker.socket
options:
  service:
    description: The compose service, or the name of the container, of the audio service. If it is empty, O(python) is run on this machine.
    type: str
    default: ""
  project:
    description: The compose project of O(service), if the machine runs several.
    type: str
  user:
    description: The user in the container. The default is that of the container.
    type: str
  python:
    description: The interpreter, such as that of a virtual environment. The default is that of the service if it is a path, else C(python3).
    type: str
    default: ""
  directories:
    description: The directories of the library of music, as paths where the service runs.
    type: list
    elements: str
    default: []
  directory_settings:
    description: Environment variables of the service. Without O(directories), the first one that is set to an absolute path gives the directory.
    type: list
    elements: str
    default: []
  directory_candidates:
    description: Without O(directories) and O(directory_settings), the first of these directories that exists is measured.
    type: list
    elements: str
    default: []
  extensions:
    description: The ends of the names of audio files.
    type: list
    elements: str
    default: [.mp3, .flac, .wav, .ogg, .m4a, .aac, .aif, .aiff, .opus]
  walk_seconds:
    description: Seconds in which the files of the library are counted. With O(database.query), half of the O(deadline) is used.
    type: float
    default: 0.1
  temporary_directory:
    description: The directory for temporary files. The default is C(TMPDIR) of the service, else C(/tmp).
    type: str
    default: ""
  temporary_patterns:
    description: The names of temporary files that belong to the service, as shell patterns.
    type: list
    elements: str
    default: [tracktion_*, audio_processing_*]
  leftover_seconds:
    description: Seconds after the last change of a temporary file that no process has open, from which on it is a leftover.
    type: float
    default: 86400.0
  longest_seconds:
    description: The duration of the longest file that must be processed.
    type: float
    default: 600.0
  library:
    description: The Python package that decodes and analyses audio.
    type: str
    default: essentia
  settings:
    description: Settings of the service, with what is expected of them.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: Its name in the result.
        type: str
        required: true
      environment:
        description: The environment variable that holds it.
        type: str
        default: ""
      path:
        description:
          - A dotted path that leads to it, such as C(services.analysis_service.src.config.get_config(\).bpm.confidence_threshold). It is
            evaluated in a child process, which imports the module.
        type: str
        default: ""
      expected:
        description: The expected value. Numbers are compared as numbers.
        type: str
        required: true
  deep:
    description: Whether to import the library, to decode the reference files and to run the detectors.
    type: bool
    default: false
  state_file:
    description:
      - A file on this machine that keeps the last result of O(deep). With it, O(deep) is run if there is no result of this container that is
        younger than O(state_seconds). Its directory must belong to the user that measures, and is created if it is missing.
    type: path
  state_seconds:
    description: Seconds for which the result in O(state_file) is used.
    type: float
    default: 86400.0
  formats:
    description: The formats of which a reference file is decoded.
    type: list
    elements: str
    choices: [wav, mp3, flac, ogg, m4a]
    default: [wav, mp3, flac, ogg, m4a]
  load_call:
    description:
      - A dotted path of a function or a method that decodes the file at a path, such as C(package.module.Class.method). A class is
        instantiated without arguments. It returns the samples at 44.1 kHz, or C(duration) and C(peak) as keys or attributes.
      - By default, C(MonoLoader) of Essentia decodes.
    type: str
    default: ""
  bpm_call:
    description:
      - The same for the detector of the tempo, such as C(services.analysis_service.src.bpm_detector.BPMDetector.detect_bpm). It returns C(bpm)
        and C(confidence) as keys or attributes.
      - By default, C(RhythmExtractor2013) of Essentia detects, and its confidence is divided by 5.
    type: str
    default: ""
  bpm_result:
    description: The names of C(bpm) and C(confidence) in the result of O(bpm_call), if they are called otherwise.
    type: dict
    default: {}
  key_call:
    description:
      - The same for the detector of the key, such as C(services.analysis_service.src.key_detector.KeyDetector.detect_key). It returns C(key),
        C(scale) and C(confidence).
      - By default, C(KeyExtractor) of Essentia detects.
    type: str
    default: ""
  key_result:
    description: The names of C(key), C(scale) and C(confidence) in the result of O(key_call), if they are called otherwise.
    type: dict
    default: {}
  files:
    description: Audio files to examine, as absolute paths where the service runs. A path of this machine in a mount of the container is translated.
    type: list
    elements: str
    default: []
  sample_rate:
    description: The sample rate that O(files) should have.
    type: int
    default: 44100
  step_seconds:
    description: Seconds for each step in a child process.
    type: float
    default: 20.0
  step_memory:
    description: Bytes that a step may allocate, at most four fifths of what the memory limit of the container leaves.
    type: int
    default: 1073741824
  log_minutes:
    description: Minutes of the log of the container that are read.
    type: float
    default: 15.0
  failed_patterns:
    description: Regular expressions of the lines about a file that failed, ignoring case. A group C(path) gives the file.
    type: list
    elements: str
    default:
      - "(?:error|fail|exception|cannot|could not|unable)[^\\n]{0,300}?\
        (?P<path>/[^\\n\\\"'<>|]{1,300}?\\.(?:aac|aiff?|flac|m4a|mp3|mp4|oga|ogg|opus|wav|wma))(?![\\w.])"
  completed_pattern:
    description: A regular expression of the lines about a file that was processed, ignoring case.
    type: str
    default: completed?\b
  statistics:
    description: A hash in Redis with the numbers of processed files. Connection options that are not given have the defaults of M(tracktion.ops.redis_memory).
    type: dict
    default: {}
    suboptions:
      key: {description: The key of the hash. Without it nothing is read., type: str, default: ""}
      failed: {description: The field with the number of failed files., type: str, default: total_failed}
      completed: {description: The field with the number of files that were processed., type: str, default: total_completed}
      login_host: {description: Host name or address., type: str}
      login_port: {description: Port., type: int}
      login_user: {description: User., type: str}
      login_password: {description: Password., type: str}
      timeout: {description: Timeout of the connection and of each answer in seconds., type: float}
      tls: {description: Whether to use TLS., type: bool}
      validate_certs: {description: Whether to verify the certificate., type: bool}
      ca_certs: {description: File with the certificates of the trusted authorities., type: str}
      client_cert_file: {description: File with the client certificate., type: str}
      client_key_file: {description: File with the key of the client certificate., type: str}
  database:
    description: A query about the files in the database. Connection options that are not given have the defaults of M(tracktion.ops.pg_activity).
    type: dict
    default: {}
    suboptions:
      query:
        description:
          - Returns a row for each state of the files, with the columns C(state), C(rows) and perhaps C(oldest_seconds). It is run in a read-only
            transaction. Without it nothing is read.
        type: str
        default: ""
      login_host: {description: Host name or address., type: str}
      login_port: {description: Port., type: int}
      login_user: {description: Role., type: str}
      login_password: {description: Password., type: str}
      login_db: {description: Database., type: str}
      login_unix_socket: {description: Directory of a Unix-domain socket., type: str}
      ssl_mode: {description: Mode of TLS., type: str}
      ca_cert: {description: File with the certificates of the trusted authorities., type: str}
      ssl_cert: {description: File with the client certificate., type: str}
      ssl_key: {description: File with the key of the client certificate., type: str}
      timeout: {description: Timeout of the connection and of the query in seconds., type: float}
  pending_states:
    description: The states of files that wait for their analysis.
    type: list
    elements: str
    default: [pending, queued, processing]
  top:
    description: Maximum number of entries of each list in the result.
    type: int
    default: 20
  timeout:
    description: Timeout of each answer of the engine, in seconds.
    type: float
    default: 5.0
  deadline:
    description: Seconds for the whole measurement.
    type: float
    default: 15.0
seealso:
  - module: tracktion.ops.container_probe_info
  - module: tracktion.ops.log_errors_info
"""

EXAMPLES = r"""
- name: Measure the way of an audio file
  tracktion.ops.audio_probe_info:
    service: analysis_service
    directories: [/music]
  register: audio

- name: Examine a file that is not processed
  tracktion.ops.audio_probe_info:
    service: analysis_service
    files: [/music/incoming/track.mp3]
  register: audio

- name: Test the detectors of the service
  tracktion.ops.audio_probe_info:
    service: analysis_service
    deep: true
    bpm_call: services.analysis_service.src.bpm_detector.BPMDetector.detect_bpm
    key_call: services.analysis_service.src.key_detector.KeyDetector.detect_key
    deadline: 60

- name: Test the library in a virtual environment of this machine
  tracktion.ops.audio_probe_info:
    python: /opt/analysis/venv/bin/python
    deep: true
    deadline: 60
"""

RETURN = r"""
reachable: {description: Whether the container of the service runs and its engine answers., returned: always, type: bool, sample: true}
error:
  description:
    - Why nothing was measured, or null. C(kind) is V(no_container) or V(not_running), or a failure of the engine, V(no_engine), V(permission),
      V(refused), V(no_answer), V(closed), V(protocol), V(rejected) or V(failed).
  returned: always
  type: dict
  sample: null
unknown: {description: "Parts that could not be read, or not completely.", returned: always, type: list, elements: dict, sample: []}
target:
  description: Where it was measured.
  returned: always
  type: dict
  contains:
    service: {description: "As given, null on this machine.", type: str, returned: always}
    container: {description: The name of the container., type: str, returned: always}
    python: {description: The interpreter., type: str, returned: always}
    uid: {description: The user., type: int, returned: always}
    gid: {description: The group., type: int, returned: always}
    seconds: {description: Duration of the program., type: float, returned: always}
    mounts: {description: "The mounts of the container, as C(/srv/music on /music).", type: list, elements: str, returned: always}
  sample: {service: analysis_service, container: tracktion-analysis_service, python: python3, uid: 1000, gid: 1000, seconds: 0.15, mounts: []}
music:
  description: The directories of the library. Null if the program did not run.
  returned: always
  type: list
  elements: dict
  contains:
    path: {description: Its path., type: str, returned: always}
    exists: {description: Whether it is a directory. Null if this user cannot see it., type: bool, returned: always}
    mounted: {description: Whether a mount of the container covers it., type: bool, returned: always}
    file_system: {description: The type of its file system., type: str, returned: always}
    files: {description: The number of audio files., type: int, returned: always}
    empty: {description: Whether it holds nothing at all., type: bool, returned: always}
    complete: {description: Whether all of it was counted in time., type: bool, returned: always}
    unreadable_total: {description: The number of files and directories that this user cannot read., type: int, returned: always}
    unreadable: {description: "The first of them by name, as RV(music[].first_unreadable).", type: list, elements: dict, returned: always}
    first_unreadable:
      description:
        - The first one, as C(path), C(denied) (what denies it, the path itself or a directory above it) with C(mode), C(uid), C(gid),
          C(directory), and C(host_path), where the host has that.
      type: dict
      returned: always
  sample: []
temporary:
  description: The directory for temporary files.
  returned: always
  type: dict
  contains:
    path: {description: Its path., type: str, returned: always}
    exists: {description: Whether it is a directory., type: bool, returned: always}
    writable: {description: Whether this user may create files in it., type: bool, returned: always}
    bytes: {description: The size of its file system., type: int, returned: always}
    bytes_free: {description: The bytes that this user can use., type: int, returned: always}
    bytes_ratio: {description: The ratio of used bytes., type: float, returned: always}
    inodes: {description: The number of inodes., type: int, returned: always}
    inodes_free: {description: Free inodes., type: int, returned: always}
    inodes_ratio: {description: The ratio of used inodes., type: float, returned: always}
    leftovers:
      description: The entries that match O(temporary_patterns).
      type: dict
      returned: always
      contains:
        total: {description: Their number., type: int, returned: always}
        old: {description: "The number of files of them that are older than O(leftover_seconds), and not known to be open.", type: int, returned: always}
        old_bytes: {description: Their size on the disk., type: int, returned: always}
        oldest_seconds: {description: The age of the oldest of them., type: float, returned: always}
        open: {description: The number of old files that a process has open., type: int, returned: always}
        open_known: {description: Whether the open files of all processes of the container could be read., type: bool, returned: always}
        examples: {description: "The oldest of them, as paths.", type: list, elements: str, returned: always}
  sample: null
memory:
  description: The memory limit.
  returned: always
  type: dict
  contains:
    limit: {description: The limit of the container in bytes. Null without one., type: int, returned: always}
    used: {description: The memory in use without the page cache., type: int, returned: always}
    longest_seconds: {description: As given., type: float, returned: always}
    needed: {description: "What a file of this duration needs: 173 MB and 529200 bytes for each second.", type: int, returned: always}
  sample: {limit: 4294967296, used: 190000000, longest_seconds: 600.0, needed: 490520000}
library:
  description: The audio library, which was not imported.
  returned: always
  type: dict
  contains:
    name: {description: As given., type: str, returned: always}
    installed: {description: Whether the interpreter finds it., type: bool, returned: always}
    version: {description: "Its version, by the name of its metadata.", type: str, returned: always}
    path: {description: The directory that it is in., type: str, returned: always}
  sample: {name: essentia, installed: true, version: 2.1b6.dev1389, path: /usr/lib/python3/dist-packages}
settings:
  description: The O(settings).
  returned: always
  type: list
  elements: dict
  contains:
    name: {description: As given., type: str, returned: always}
    source: {description: "The variable of the environment, with C($), or the dotted path.", type: str, returned: always}
    value: {description: "Its value, hidden if it has the name of a secret.", type: str, returned: always}
    expected: {description: As given., type: str, returned: always}
    matches: {description: Whether they are the same. Null if it could not be read., type: bool, returned: always}
    error: {description: Why it could not be read., type: str, returned: always}
  sample: []
age_seconds:
  description:
    - The age of the results of O(deep), 0 if it was run now. Null if it was not run, and O(state_file) holds none. Then the lists of its results are
      empty.
  returned: always
  type: float
  sample: null
imports:
  description:
    - The import of the library in the run of O(deep), as C(state), C(message), C(seconds), C(bytes) (resident memory), C(memory_left) (by the memory
      limit of the container), C(keep_error) (why the result could not be written to O(state_file)). C(state), also of the other steps, is null if the
      time was over, V(ok), V(error) (an exception), V(crash), V(hang), V(out_of_memory), or V(no_memory) if it was not run because less than 200 MiB were
      left.
  returned: always
  type: list
  elements: dict
  sample: []
formats:
  description: "The O(formats), as C(format), C(ok), C(state), C(message), C(decoded_seconds), C(stated_seconds)."
  returned: always
  type: list
  elements: dict
  sample: []
silence_references:
  description: "What the detector of the tempo says about silence, as C(value), C(confidence), C(state), C(message), C(seconds)."
  returned: always
  type: list
  elements: dict
  sample: []
tempo_references:
  description:
    - The click tracks, as C(reference) (beats per minute), C(value), C(confidence), C(octave) (0.5, 1 or 2, the multiple of the reference that is nearest
      to the value), C(error) (the ratio by which it differs from that), C(state), C(message), C(seconds).
  returned: always
  type: list
  elements: dict
  sample: []
key_references:
  description: "The cadence, as C(reference), C(value), C(matches), C(confidence), C(state), C(message), C(seconds)."
  returned: always
  type: list
  elements: dict
  sample: []
files:
  description: The O(files).
  returned: always
  type: list
  elements: dict
  contains:
    path: {description: As given., type: str, returned: always}
    path_inside: {description: The path where the service runs., type: str, returned: always}
    examined: {description: Whether it was examined., type: bool, returned: always}
    fault:
      description:
        - V(none) if it is decoded as it should be, null if it was not examined. Else V(missing), V(directory), V(no_permission), V(empty), V(text),
          V(not_audio) (other data), V(unknown_codec) (the library rejects it), V(truncated) (shorter than its header states), V(silent), V(sample_rate)
          (another than O(sample_rate)), V(crash), V(hang), V(out_of_memory), or V(error).
      type: str
      returned: always
    message: {description: The text of the error., type: str, returned: always}
    bytes: {description: Its size., type: int, returned: always}
    container: {description: "The format of the file: V(wav), V(flac), V(ogg), V(mp3), V(mp4), V(text), V(empty).", type: str, returned: always}
    codec: {description: The codec that its header names., type: str, returned: always}
    sample_rate: {description: The sample rate in its header., type: int, returned: always}
    channels: {description: The channels in its header., type: int, returned: always}
    stated_seconds: {description: "The duration by its header, null if it states none.", type: float, returned: always}
    decoded_seconds: {description: The duration of the decoded samples., type: float, returned: always}
    peak: {description: The largest sample from 0 to 1., type: float, returned: always}
    seconds: {description: The time that decoding took., type: float, returned: always}
    peak_bytes: {description: The largest memory of the process that decoded it., type: int, returned: always}
  sample: []
logs:
  description: The log of the container. Empty on this machine.
  returned: always
  type: list
  elements: dict
  contains:
    minutes: {description: As O(log_minutes)., type: float, returned: always}
    left_out: {description: Why some lines were not read., type: str, returned: always}
    complete: {description: Whether all of these lines were compared with the patterns., type: bool, returned: always}
    completed: {description: Lines that match O(completed_pattern)., type: int, returned: always}
    failed: {description: Lines that match one of O(failed_patterns)., type: int, returned: always}
    failed_ratio: {description: The ratio of failed ones of both., type: float, returned: always}
    failed_files_total: {description: The number of files in these lines., type: int, returned: always}
  sample: []
failed_files:
  description:
    - The files in these lines, as C(path), C(count), C(last_seen), C(line), C(exists), C(changed_since) (whether the file or its mode was changed since).
  returned: always
  type: list
  elements: dict
  sample:
    - path: /music/a.mp3
      count: 2
      last_seen: 1795447000.5
      line: BPM detection failed for /music/a.mp3
      exists: true
      changed_since: false
statistics:
  description: The O(statistics), as C(failed), C(completed), C(failed_ratio). Empty without O(statistics.key).
  returned: always
  type: list
  elements: dict
  sample: [{failed: 3, completed: 120, failed_ratio: 0.0244}]
pipeline:
  description: The files in the library and in the database. Empty without O(database.query).
  returned: always
  type: list
  elements: dict
  contains:
    rows: {description: The number of rows., type: int, returned: always}
    states: {description: "The rows by state, as C(state), C(rows), C(oldest_seconds), C(pending).", type: list, elements: dict, returned: always}
    pending: {description: "Rows in one of O(pending_states).", type: int, returned: always}
    oldest_pending_seconds: {description: The age of the oldest of these., type: float, returned: always}
    files: {description: The audio files of the library. Null if not all were counted., type: int, returned: always}
    missing: {description: "The number of files without a row, if each row is a file.", type: int, returned: always}
  sample: []
"""

from functools import partial

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.tracktion.ops.plugins.module_utils._exit import exit_module
from ansible_collections.tracktion.ops.plugins.module_utils._measures._audio_probe_info import (
    ARGUMENT_SPEC,
    measure,
)


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True)
    exit_module(module, partial(measure, module.params))


if __name__ == "__main__":
    main()
