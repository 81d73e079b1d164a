"""A private certificate authority, for the broker and the devices of sites without their own.

Devices are given the authority's certificate once; the server's may be renewed under it without touching a device.
"""

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from infra.errors import ConfigurationError
from infra.texts import say

AUTHORITY_DAYS, SERVER_DAYS, CLIENT_DAYS = 7300, 825, 3650
RENEW_DAYS = 60
"""A server certificate that ends within so many days is made anew."""

LEEWAY = timedelta(days=1)
"""Validity before the present, for devices whose clock is behind."""


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate and its private key, PEM."""

    certificate: bytes
    key: bytes

    def __repr__(self) -> str:
        return "Pair(…)"


def authority(name: str, now: datetime) -> Pair:
    """A new authority that signs certificates of the broker and of devices, and no other authority's."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    usage = x509.KeyUsage(
        key_cert_sign=True,
        crl_sign=True,
        digital_signature=False,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
    builder = (
        _builder(subject, subject, key.public_key(), now, AUTHORITY_DAYS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
    )
    return _pair(builder.sign(key, hashes.SHA256()), key)


def server(signed_by: Pair, names: Iterable[str], now: datetime) -> Pair:
    """A server certificate for these host names and addresses; raises ConfigurationError for none or a bad one."""
    wanted = list(names)
    general = [_general_name(name) for name in wanted]
    if not general:
        raise ConfigurationError(say("certificate.no_name"))
    issuer, issuer_key = _read(signed_by)
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, wanted[0])])  # small TLS stacks look for it
    builder = (
        _builder(subject, issuer.subject, key.public_key(), now, SERVER_DAYS)
        .add_extension(x509.SubjectAlternativeName(general), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()),
            critical=False,
        )
    )
    return _pair(builder.sign(issuer_key, hashes.SHA256()), key)


def client(signed_by: Pair, name: str, now: datetime) -> Pair:
    """A certificate by which a device signs in under ``name`` (its common name), and which serves for nothing else."""
    issuer, issuer_key = _read(signed_by)
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = (
        _builder(subject, issuer.subject, key.public_key(), now, CLIENT_DAYS)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()),
            critical=False,
        )
    )
    return _pair(builder.sign(issuer_key, hashes.SHA256()), key)


def issued_by(certificate: bytes, authority_certificate: bytes) -> bool:
    """Whether this authority signed the certificate."""
    try:
        found = x509.load_pem_x509_certificate(certificate)
        found.verify_directly_issued_by(x509.load_pem_x509_certificate(authority_certificate))
    except (InvalidSignature, ValueError, TypeError):
        return False
    return True


def serves(certificate: bytes, names: Iterable[str], now: datetime) -> bool:
    """Whether a certificate is for just these names, and good for a while yet."""
    found = x509.load_pem_x509_certificate(certificate)
    held = set(found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
    return held == {_general_name(name) for name in names} and found.not_valid_after_utc - now > timedelta(RENEW_DAYS)


def check_pair(certificate: bytes, key: bytes) -> None:
    """Raises ConfigurationError unless this is a PEM certificate and the key that belongs to it."""
    try:
        held = x509.load_pem_x509_certificate(certificate).public_key()
    except ValueError as error:
        raise ConfigurationError(say("certificate.no_pem", error=error)) from None
    try:
        own = serialization.load_pem_private_key(key, password=None).public_key()
    except (ValueError, TypeError):
        raise ConfigurationError(say("certificate.no_key")) from None
    form = serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    if held.public_bytes(*form) != own.public_bytes(*form):
        raise ConfigurationError(say("certificate.other_key"))


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, now: datetime, days: int
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - LEEWAY)
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        pass
    if not name or not name.isascii() or any(c.isspace() for c in name):
        raise ConfigurationError(say("certificate.no_host", name=name))
    return x509.DNSName(name)


def _pair(certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> Pair:
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return Pair(certificate.public_bytes(pem), private)


def _read(pair: Pair) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    key = serialization.load_pem_private_key(pair.key, password=None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ConfigurationError(say("certificate.foreign_key"))
    return x509.load_pem_x509_certificate(pair.certificate), key
