"""Headless Chromium."""

import shutil
import subprocess

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
_QUIET = "--disable-gpu --disable-quic --no-first-run --disable-background-networking "
_QUIET += "--disable-component-update --disable-sync --no-sandbox"


def printed(url, profile, *arguments):
    """What it prints for a page, in a profile of its own."""
    command = [CHROMIUM, "--headless", *_QUIET.split(), f"--user-data-dir={profile}", *arguments]
    ran = subprocess.run([*command, url], capture_output=True, text=True, check=True, timeout=120)
    return ran.stdout
