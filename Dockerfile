# One static binary, a data directory, and nothing else; "make image" builds it.
# It serves, resolves and takes registrations. Clones that run as processes of
# the gateway's machine need their programs beside it: run those without this.
FROM scratch
COPY build/image/clonegate /usr/bin/clonegate
COPY --chown=65532:65532 build/image/data /var/lib/clonegate
USER 65532:65532
ENV CLONEGATE_DATA=/var/lib/clonegate
VOLUME /var/lib/clonegate
EXPOSE 443 80 53/udp 53/tcp
ENTRYPOINT ["/usr/bin/clonegate"]
CMD ["serve", "--config", "/etc/clonegate/clonegate.yaml"]
