"""What the options of signatures mean: a part of ``option_meanings``."""

from support.training_option_meanings import Row

__all__ = ["FLEET_MEANINGS"]

TRUSTING = ("check", "run", "bench")

FLEET_MEANINGS = {
    "--expires": Row("text", "End of a signature's validity.", ("sign",)),
    "--format": Row("choice", "Format of a signature.", ("keygen", "sign", "check")),
    "--key": Row("path", "Private key that signs.", ("sign",)),
    "--minimum-version": Row("text", "Smallest signed version that is accepted.", TRUSTING),
    "--name": Row("text", "Name of the model that is signed.", ("sign",)),
    "--require-clock": Row("flag", "Refuse a signature that expires if the clock is not set.", TRUSTING),
    "--signature": Row("path", "Signature file of the model.", TRUSTING),
    "--signed-name": Row("text", "Name that a signature must give.", TRUSTING),
    "--trusted-key": Row("texts", "Public key, one of which must have signed the file.", TRUSTING),
    "--version": Row("text", "Version of the model that is signed.", ("sign",)),
}
