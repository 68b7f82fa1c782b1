#!/usr/bin/env python3
"""A program for a Keywright location of kind exec that keeps the key in a file: example.py PATH"""
import fcntl, hashlib, json, os, sys

path = sys.argv[1]


def held():
    try:
        with open(path, "rb") as f:
            return f.read()
    except FileNotFoundError:
        return None


def digest(value):
    return None if value is None else hashlib.sha256(value).hexdigest()


def inspect(request):
    value = held()
    holding = {"present": value is not None, "how": "read back"}
    if value is not None:
        holding["digest"] = digest(value)
    return {"ok": True, "holding": holding}


def put(request):
    with open(path + ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        before, expect = digest(held()), request["expect"]
        if before != request["digest"] and expect["checked"]:
            if before != expect.get("digest"):
                return {"ok": False, "kind": "conflict", "message": "the file was changed by somebody else"}
        fd = os.open(path + ".new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(fd, "wb") as f:
            f.write(request["value"].encode())
            f.flush()
            os.fsync(f.fileno())
        os.replace(path + ".new", path)
    return {"ok": True}


def read(request):
    value = held()
    if value is None:
        return {"ok": False, "kind": "not found", "message": "the file does not exist"}
    return {"ok": True, "value": value.decode()}


def abilities(request):
    return {"ok": True, "abilities": ["read"]}


def unknown(request):
    return {"ok": False, "kind": "unsupported", "message": "no such request"}


request = json.load(sys.stdin)
answer = {"inspect": inspect, "put": put, "read": read, "abilities": abilities}.get(request["op"], unknown)
try:
    reply = answer(request)
except PermissionError:
    reply = {"ok": False, "kind": "forbidden", "message": "the file cannot be used", "hint": "look at its owner and mode"}
json.dump(reply, sys.stdout)
