"""An SMTP server that takes mail only over TLS and after AUTH, and leaves each message in a folder.

usage: catcher.py PORT CERTIFICATE KEY USER PASSWORD FOLDER
"""

import pathlib
import signal
import ssl
import sys
import threading

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult

port, certificate, key, user, password, folder = sys.argv[1:]
folder = pathlib.Path(folder)
caught = 0


class Catcher:
    async def handle_DATA(self, server, session, envelope):
        global caught
        assert session.ssl is not None and session.authenticated
        caught += 1
        text = f"X-Envelope-From: {envelope.mail_from}\r\nX-Envelope-To: {','.join(envelope.rcpt_tos)}\r\n".encode()
        part = folder / f"{caught:04}.part"
        part.write_bytes(text + envelope.original_content)
        part.rename(folder / f"{caught:04}.eml")
        return "250 OK"


def authenticate(server, session, envelope, mechanism, data):
    return AuthResult(success=data.login == user.encode() and data.password == password.encode())


context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
context.load_cert_chain(certificate, key)
controller = Controller(
    Catcher(),
    hostname="127.0.0.1",
    port=int(port),
    tls_context=context,
    require_starttls=True,
    auth_required=True,
    authenticator=authenticate,
)
controller.start()
print("ready", flush=True)
done = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: done.set())
done.wait()
controller.stop()
