#!/usr/bin/env python3
"""fail.py PART [COMMAND...]: in each command the Nth call of each class fails; see fail.sh.

PART limits the cases of one command, class and fault (0: all; else they are spread evenly).  COMMAND: only these.
"""
import collections
import errno
import multiprocessing
import os
import re
import sys

from commands import all_commands
from world import Failed, Template, World

# Class of calls: the faults.  Those in RETRIED must not be noticed at all.
FAULTS = {
    'alloc': [('error', 'ENOMEM', False), ('error', 'ENOMEM', True)],
    'open': [('error', 'EIO', False), ('error', 'EMFILE', True), ('error', 'EINTR', False)],
    'create': [('error', 'EIO', False), ('error', 'EMFILE', True), ('error', 'ENOSPC', True), ('error', 'EINTR', False)],
    'stat': [('error', 'EIO', False)],
    'list': [('error', 'EIO', False)],
    'read': [('error', 'EIO', False), ('error', 'EINTR', False), ('short', 'EIO', False), ('short-error', 'EIO', False),
             ('short', 'EIO', True)],
    'write': [('error', 'ENOSPC', True), ('error', 'EIO', False), ('error', 'EINTR', False), ('short', 'EIO', False),
              ('short-error', 'ENOSPC', False), ('short', 'EIO', True)],
    'sync': [('error', 'EIO', False), ('error', 'ENOSPC', False), ('error', 'EINTR', False), ('done', 'EIO', False)],
    'name': [('error', 'ENOSPC', True), ('error', 'EIO', False), ('done', 'EIO', False)],
    'remove': [('error', 'EIO', False)],
    'fopen': [('error', 'EIO', False)],
    'seek': [('error', 'EIO', False)],
    'thread': [('error', 'EAGAIN', False), ('error', 'EAGAIN', True)],
    'ioctl': [('error', 'EIO', False), ('error', 'EINTR', False)],
}
RETRIED = {'EINTR', 'short'}
SAID = {   # what the message says
    'ENOMEM': r'memory', 'EIO': r'Input/output error', 'ENOSPC': r'No space left', 'EMFILE': r'Too many open files',
    'EAGAIN': r'temporarily unavailable|threads?\b',
}
NEVER = r'Bad address|Success|\(null\)|Interrupted system call|Bad file descriptor|Invalid argument|internal'
TOP = os.getcwd()


def told(command, fault, r):
    """A clear error, and the exit code that the manual has for it."""
    if r.rc < 0 or r.rc in (134, 139):
        raise Failed(f'crashes: exit {r.rc}: {r.err.strip()}')
    if fault[0] in RETRIED or fault[1] in RETRIED:
        raise Failed(f'exit {r.rc} for what must be tried again: {r.err.strip()}')
    if r.rc not in command.codes:
        raise Failed(f'exit {r.rc}, not one of {command.codes}: {r.err.strip()} {r.out[:300]!r}')
    if r.rc == 6 and fault[1] != 'EIO':
        raise Failed(f'damage that is none: {r.err.strip()} {r.out[:1000]!r}')
    text = r.err + (r.out.decode(errors='replace') if r.rc == 6 else '') + (r.out.decode(errors='replace') if '"error"' in r.out.decode(errors='replace') else '')
    lines = re.findall(r'kedge: error: (.*)|"message":"(.*?)"', text)
    if len(lines) != 1 and r.rc == 1:
        raise Failed(f'{len(lines)} errors: {r.err.strip()!r} {r.out[:300]!r}')
    if re.search(NEVER, text):
        raise Failed(f'a message that says nothing: {text.strip()}')
    if not re.search(SAID[fault[1]], text):
        raise Failed(f'the cause is not told: {text.strip()}')
    return text


def plain(text):
    """The message without what differs from case to case."""
    text = text.replace(TOP, '')
    text = re.sub(r'/world-\d+|/template', '', text)
    text = re.sub(r'[0-9a-f]{12,}|\d{4}-\d\d-\d\d \d\d:\d\d:\d\d', '#', text)
    return re.sub(r'\d+', '9', text).strip()


def one(case):
    index, cls, fault, nth = case
    command = commands[index]
    world = World(template, f'{TOP}/world-{os.getpid()}', command.empty)
    what, action, number, on = '?', *fault
    try:
        command.prepare(world)
        world.may_leave = cls == 'remove'
        f = {'CLASS': cls, 'NTH': nth, 'DO': action, 'ERRNO': getattr(errno, number)}
        if on:
            f['ON'] = 1
        r = command.run(world, f)
        what = r.what
        if not r.hits:
            return 'none', '', ''
        if command.refused and r.rc == 1 and command.refused in r.err and 'warning' not in r.err:
            command.broken(world, r)
            return 'right', '', plain(r.err)
        if r.rc == 0:
            if re.search(NEVER, r.err):
                raise Failed(f'a message that says nothing: {r.err.strip()}')
            command.success(world, r)
            command.survived(world, r)
            return 'right', '', plain(r.err)
        text = plain(told(command, fault, r))
        command.broken(world, r)
        return 'error', '', text
    except Failed as e:
        return 'FAILED', f'{command.name} {cls} {action} {number}{" on" if on else ""} {nth} ({what}): {e}', ''
    except Exception as e:
        return 'FAILED', f'{command.name} {cls} {action} {number}{" on" if on else ""} {nth} ({what}): {e!r}', ''


def measure(command, cls):
    world = World(template, f'{TOP}/world-count', command.empty)
    command.prepare(world)
    r = command.run(world, {'CLASS': cls, 'NTH': 0})
    if r.rc == 0:
        command.success(world, r)
    return r.calls


def points(total, part):
    return range(1, total + 1) if not part or total <= part else sorted({1 + i * (total - 1) // (part - 1) for i in range(part)})


def main():
    global template, commands
    part, names = int(sys.argv[1]), sys.argv[2:]
    classes = os.environ.get('CLASSES', ','.join(FAULTS)).split(',')
    template = Template(TOP + '/template')
    commands = [c for c in all_commands(template) if not names or c.name in names]
    totals = {(i, cls): measure(c, cls) for i, c in enumerate(commands) for cls in classes}
    failures, total = 0, 0
    messages = collections.Counter()
    with multiprocessing.Pool(int(os.environ.get('WORKERS', '2'))) as pool:
        for i, c in enumerate(commands):
            for cls in classes:
                verdicts = collections.Counter()
                for fault in FAULTS[cls]:
                    cases = [(i, cls, fault, n) for n in points(totals[i, cls], part)]
                    results = list(pool.imap_unordered(one, cases, 4))
                    n = totals[i, cls]
                    while not part and (not results or results[-1][0] != 'none'):   # until a run has no fault left
                        n += 1
                        results.append(one((i, cls, fault, n)))
                    for verdict, text, message in results:
                        verdicts[verdict] += 1
                        if message:
                            messages[c.name, cls, fault[1], message] += 1
                        if verdict == 'FAILED':
                            print(text, flush=True)
                ran = sum(n for v, n in verdicts.items() if v != 'none')
                total += ran
                failures += verdicts['FAILED']
                print(f'{c.name}: {cls}: {ran} faults in {totals[i, cls]} calls: {verdicts["right"]} right all the same, '
                      f'{verdicts["error"]} clear errors, {verdicts["FAILED"]} failed', flush=True)
    with open('messages', 'w') as f:
        for (name, cls, number, message), n in sorted(messages.items()):
            f.write(f'{n} {name}, {cls} {number}:\n    ' + message.replace('\n', '\n    ') + '\n')
    print(f'fail matrix: {total} faults, {failures} failures')
    sys.exit(1 if failures else 0)


if __name__ == '__main__':
    main()
