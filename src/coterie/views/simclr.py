"""SimCLR's distortions of photographs, shared by the methods that build on it."""

from __future__ import annotations

from coterie.views.recipes import View


def simclr_view(strength: float, blur: float) -> View:
    """The contrastive view with a colour jitter of that strength and a chance of blur.

    Strength 0.5 is (0.4, 0.4, 0.4, 0.1) of brightness, contrast, saturation and hue (Chen et al. 2020, appendix A).
    """
    return View("contrastive", settings={"jitter": (*[0.8 * strength] * 3, 0.2 * strength), "blur": blur})
