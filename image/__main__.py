"""`python -m image build RECIPE`: the same as `nvrctl image build RECIPE`, from a checkout."""

from tools.nvrctl.image import image

image(prog_name="python -m image")
