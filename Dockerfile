# The environment of requirements.lock as an image, and the checkout in it with its git history (runs record the commit).
#   docker build -t reprod .                                  about 7 GB, with CUDA; --build-arg OPTIONS=--cpu for none
#   docker run --rm -v "$PWD:/store" reprod reprod run sphere_ode --scale smoke             (--gpus all where there are)
#   docker run --rm -v "$PWD:/store" reprod mlflow run /opt/reprod --env-manager local -e sphere_ode -P scale=smoke
# The store is in the mounted folder. Apptainer makes its own image of this one: apptainer build reprod.sif docker-daemon://reprod:latest
ARG BASE=python:3.12-slim-bookworm
FROM ${BASE}
RUN apt-get update && apt-get install -y --no-install-recommends git && rm -rf /var/lib/apt/lists/*
COPY . /opt/reprod
ARG OPTIONS=""
RUN cd /opt/reprod && UV_NO_CACHE=1 PIP_NO_CACHE_DIR=1 python3 bootstrap.py ${OPTIONS} && rm -rf .venv-uv
ENV PATH=/opt/reprod/.venv/bin:$PATH REPROD_CACHE=/store/.reprod REPROD_DATA=/store/data
WORKDIR /store
CMD ["reprod"]
