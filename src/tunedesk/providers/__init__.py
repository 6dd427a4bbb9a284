"""Endpoints that train and chat: `connect` turns a profile into a Provider, importing the SDK only then."""

from __future__ import annotations

from tunedesk.config import Profile
from tunedesk.errors import ProviderError
from tunedesk.paths import Paths
from tunedesk.providers.base import Provider


def connect(profile: Profile, key: str | None, paths: Paths) -> Provider:
    """Return a client of `profile`; nothing is sent yet. Takes about a second: call it off the event loop.

    The local engine is found, or started, at the first request, and again after it died.
    Raises ProviderError when the profile has no address or no key.
    """
    if not profile.is_local and not profile.base_url:
        raise ProviderError(
            f"the provider {profile.name} has no base_url", f"set it in {paths.config / 'profiles.toml'}"
        )
    if not profile.is_local and not key:
        raise ProviderError(
            f"there is no key for {profile.name}", f"set {profile.key_variable}, or key_file in its profile"
        )
    from tunedesk.providers.local import start_engine
    from tunedesk.providers.openai_compatible import OpenAICompatible

    if profile.is_local:
        return OpenAICompatible(profile, lambda given_up: start_engine(paths, given_up=given_up))
    return OpenAICompatible(profile, lambda _: (profile.base_url, key or ""), account=key or "")
