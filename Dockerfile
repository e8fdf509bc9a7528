# Images: docker build --target gateway|engine-cpu|engine-gpu -t prfaas-gateway:dev .
#
# Every package has the version in deploy/constraints (`make constraints` resolves them anew). Where the build has to pass
# a proxy or a mirror: --network host, --build-arg HTTPS_PROXY=... or PIP_INDEX_URL=..., and for an authority of your own a
# base image that knows it, --build-arg BASE_IMAGE=... Nothing of that stays in the images.
ARG BASE_IMAGE=python:3.11-slim-bookworm
ARG VLLM_IMAGE=vllm/vllm-openai:v0.32.0

# ---- what all builds share: pip's settings, and the package itself as a wheel
FROM ${BASE_IMAGE} AS build
ARG PIP_INDEX_URL
ARG PIP_EXTRA_INDEX_URL
ARG PIP_FIND_LINKS
ARG PIP_TRUSTED_HOST
ARG PIP_CERT
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore PYTHONDONTWRITEBYTECODE=1
WORKDIR /build
# Into pip's own settings, as arguments end with their stage; the file is there in any case, for who mounts it.
RUN touch /etc/pip.conf; \
    for pair in "index-url=${PIP_INDEX_URL}" "extra-index-url=${PIP_EXTRA_INDEX_URL}" "find-links=${PIP_FIND_LINKS}" \
      "trusted-host=${PIP_TRUSTED_HOST}" "cert=${PIP_CERT}"; do \
      [ -z "${pair#*=}" ] || python3 -m pip config --global set "global.${pair%%=*}" "${pair#*=}"; \
    done
COPY deploy/constraints constraints
# Without pip of its own: what installs need not be in the image.
RUN python3 -m venv --without-pip /opt/prfaas

# Who runs in the containers, and what belongs to them: volumes take over the owner of the folder in the image.
FROM ${BASE_IMAGE} AS user
RUN useradd --uid 10001 --create-home --home-dir /home/prfaas prfaas \
 && install -d -o prfaas -g prfaas /models /certs /secrets /state /cache

FROM build AS wheel
COPY pyproject.toml README.md LICENSE ./
COPY prfaas prfaas
# A fixed date in the archive: the same files make the same wheel.
RUN SOURCE_DATE_EPOCH=315532800 PIP_CONSTRAINT=constraints/build.txt python3 -m pip wheel --no-deps --wheel-dir /wheel .

# ---- gateway: no torch, no vLLM
FROM build AS gateway-build
RUN command -v strip || { apt-get update && apt-get install -y --no-install-recommends binutils; }
RUN python3 -m pip --python /opt/prfaas/bin/python install --no-compile --no-deps -r constraints/gateway.txt
COPY --from=wheel /wheel /wheel
COPY deploy/images/slim.py deploy/images/healthy.py ./
RUN python3 -m pip --python /opt/prfaas/bin/python install --no-compile --no-deps /wheel/*.whl \
 && install -m 0755 healthy.py /opt/prfaas/bin/healthy \
 && /opt/prfaas/bin/python slim.py /opt/prfaas

# Of the base only what Python runs on, in one layer: what a layer removes is still in the image below it.
FROM user AS gateway-root
COPY --from=gateway-build /opt/prfaas /opt/prfaas
COPY deploy/images/root.py /build/
RUN python3 /build/root.py /opt/prfaas /root-of-the-image

FROM scratch AS gateway
COPY --from=gateway-root /root-of-the-image /
COPY --from=gateway-build /opt/prfaas /opt/prfaas
ENV PATH=/opt/prfaas/bin:/usr/local/bin:/usr/bin:/bin LANG=C.UTF-8 PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 \
    HF_HOME=/cache/hub
USER 10001:10001
WORKDIR /home/prfaas
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=20s CMD ["healthy", "http://127.0.0.1:8000/health"]
ENTRYPOINT ["prfaas"]
CMD ["gateway", "--config", "/etc/prfaas/prfaas.yaml"]

# ---- an engine without a GPU, for trying things out
FROM build AS engine-cpu-build
ARG TORCH_INDEX_URL=https://download.pytorch.org/whl/cpu
# torch's CPU build is not on PyPI, whose own is for CUDA: it comes from what pip is configured to, else from PyTorch's index.
RUN torch="$(grep ^torch== constraints/engine-cpu.txt)+cpu" \
 && pip="python3 -m pip --python /opt/prfaas/bin/python install --no-deps" \
 && { $pip "$torch" || $pip --index-url "${TORCH_INDEX_URL}" "$torch"; }
RUN python3 -m pip --python /opt/prfaas/bin/python install --no-deps -r constraints/engine-cpu.txt

FROM user AS engine-cpu
RUN ldconfig -p | grep -q libnuma \
 || { apt-get update && apt-get install -y --no-install-recommends libgomp1 libnuma1 && rm -rf /var/lib/apt/lists/*; }
COPY --from=engine-cpu-build /opt/prfaas /opt/prfaas
# In layers of their own, as they change more often than three gigabytes of libraries.
COPY --from=wheel /wheel /wheel
COPY deploy/images/healthy.py /opt/prfaas/bin/healthy
RUN python3 -m pip --python /opt/prfaas/bin/python install --no-index --no-deps /wheel/*.whl \
 && chmod 0755 /opt/prfaas/bin/healthy && rm -r /wheel
# torch compiles with a C++ compiler, which the image does without: what would be compiled runs as it is.
ENV PATH=/opt/prfaas/bin:$PATH PYTHONUNBUFFERED=1 VLLM_NO_USAGE_STATS=1 HF_HOME=/cache/hub VLLM_CACHE_ROOT=/cache/vllm \
    TORCHDYNAMO_DISABLE=1
USER 10001:10001
WORKDIR /home/prfaas
# Importing torch and vLLM and loading the model take a minute or two on a small machine.
HEALTHCHECK --interval=10s --timeout=5s --start-period=300s CMD ["healthy", "http://127.0.0.1:8101/health"]
ENTRYPOINT ["prfaas"]
CMD ["engine", "--config", "/etc/prfaas/prfaas.yaml"]

# ---- an engine with GPUs: vLLM's own image, whose kernels are built and tested together, and this package on top
FROM ${VLLM_IMAGE} AS engine-gpu
USER root
COPY --from=wheel /wheel /tmp/prfaas
COPY deploy/constraints/gateway.txt deploy/images/beside.py deploy/images/healthy.py /tmp/prfaas/
# What vLLM's image has stays as it is; what it lacks comes in the version of the gateway's constraints. pip's settings are
# lent: an argument of this stage, such as an index with a password, would be in the image's history.
RUN --mount=type=bind,from=build,source=/etc/pip.conf,target=/etc/pip.conf \
    python3 -m pip freeze > /tmp/prfaas/there.txt \
 && python3 /tmp/prfaas/beside.py /tmp/prfaas/there.txt /tmp/prfaas/gateway.txt > /tmp/prfaas/constraints.txt \
 && PIP_BREAK_SYSTEM_PACKAGES=1 python3 -m pip install --no-cache-dir --disable-pip-version-check \
      --constraint /tmp/prfaas/constraints.txt /tmp/prfaas/*.whl \
 && install -m 0755 /tmp/prfaas/healthy.py /usr/local/bin/healthy \
 && rm -rf /tmp/prfaas \
 && useradd --uid 10001 --create-home --home-dir /home/prfaas prfaas \
 && install -d -o prfaas -g prfaas /models /certs /secrets /state /cache
ENV PYTHONUNBUFFERED=1 VLLM_NO_USAGE_STATS=1 HF_HOME=/cache/hub VLLM_CACHE_ROOT=/cache/vllm
USER 10001:10001
WORKDIR /home/prfaas
# A large model takes minutes to load from disk.
HEALTHCHECK --interval=10s --timeout=5s --start-period=1800s CMD ["healthy", "http://127.0.0.1:8101/health"]
ENTRYPOINT ["prfaas"]
CMD ["engine", "--config", "/etc/prfaas/prfaas.yaml"]
