"""What the options of signatures and bundles mean: a part of ``option_meanings``."""

from support.training_option_meanings import Row

__all__ = ["FLEET_MEANINGS"]

TRUSTING = ("check", "run", "bench")

FLEET_MEANINGS = {
    "--cert": Row("path", "Certificate of the signer of a bundle.", ("bundle",)),
    "--compatible": Row("text", "Devices that take a RAUC bundle.", ("bundle",)),
    "--device-type": Row("texts", "Devices that take a Mender artifact.", ("bundle",)),
    "--expires": Row("text", "End of a signature's validity.", ("sign",)),
    "--format": Row("choice", "Format of a signature or a bundle.", ("keygen", "sign", "check", "bundle")),
    "--key": Row("path", "Private key that signs.", ("sign", "bundle")),
    "--minimum-version": Row("text", "Smallest signed version that is accepted.", (*TRUSTING, "bundle")),
    "--name": Row("text", "Name of the model that is signed or packed.", ("sign", "bundle")),
    "--require-clock": Row("flag", "Refuse a signature that expires if the clock is not set.", TRUSTING),
    "--signature": Row("path", "Signature file of the model.", TRUSTING),
    "--signed-name": Row("text", "Name that a signature must give.", (*TRUSTING, "bundle")),
    "--trusted-key": Row("texts", "Public key, one of which must have signed the file.", (*TRUSTING, "validate")),
    "--version": Row("text", "Version of the model that is signed or packed.", ("sign", "bundle")),
}
