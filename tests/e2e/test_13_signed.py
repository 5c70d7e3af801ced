"""Keys in a secret: a bundle that nobody has signed, or a stranger, is refused; one that a trusted key has signed is served; and a key
that is trusted beside the first takes over."""

import shutil

from bundles import MODEL, Bundle
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from desk import DEADLINE, ROUTER, ROUTER_POD, WINDOW
from refused import is_refused

from signalyard_runtimes.bundle.signature import attach


class Key:
    """A key pair: ``private`` is a file, ``public`` its text."""

    def __init__(self, private):
        made = ec.generate_private_key(ec.SECP256R1())
        form, plain = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        self.private = private
        self.private.write_bytes(made.private_bytes(serialization.Encoding.PEM, form, plain))
        form = serialization.PublicFormat.SubjectPublicKeyInfo
        self.public = made.public_key().public_bytes(serialization.Encoding.PEM, form).decode()


def secret(scenario, name, **keys):
    files = {f"{owner}.pub": key.public for owner, key in keys.items()}
    scenario.apply({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": files})


def test_13_signed(desk, scenario, tmp_path):
    team, stranger = Key(tmp_path / "team.key"), Key(tmp_path / "stranger.key")

    def signed(version, key):
        """Pushed with the signature, as a track's values name it."""
        bundle = desk.published.bundles.version(version)
        copy = shutil.copytree(bundle.folder, tmp_path / version)
        manifest = attach(copy, key.private)
        uri = desk.published.push(Bundle(copy, manifest), f"signed/{MODEL}:{version}")
        return {"version": version, "digest": manifest.digest, "uri": uri}

    def model(stable, trusted="keys"):
        return desk.model("7", tracks={"stable": stable}, pods={"trust": {"secret": trusted}})

    secret(scenario, "keys", team=team)
    secret(scenario, "keys-rotating", team=team, successor=stranger)
    desk.install_router()
    good, foreign = signed("7", team), signed("9", stranger)
    desk.install_model(model(good))
    desk.await_ready()

    with scenario.load(ROUTER, rate=40, deadline=DEADLINE) as load:
        load.await_more(50)
        is_refused(desk, scenario, load, model(desk.published.version("8")), "bundle_unsigned", "signature.json")
        is_refused(desk, scenario, load, model(foreign), "bundle_signature_untrusted", "team.pub")
        # The stranger's key becomes the team's next one.
        desk.upgrade_model(model(foreign, "keys-rotating"))
        scenario.await_rollout(f"deployment/{MODEL}-stable")
        load.await_lines(lambda lines: {one.get("version") for one in lines[-1]["decisions"]} == {"9"})
        # What the first key has signed is as good as before.
        desk.upgrade_model(model(good, "keys-rotating"))
        scenario.await_rollout(f"deployment/{MODEL}-stable")
        load.await_lines(lambda lines: {one.get("version") for one in lines[-1]["decisions"]} == {"7"})
        load.await_more(50)
    account = scenario.account(load, window=WINDOW, pod=ROUTER_POD)

    assert account.failures == account.unanswered == account.late == 0
    assert not account.duplicates
    assert not account.lost
    assert set(account.versions) == {"7", "9"}
