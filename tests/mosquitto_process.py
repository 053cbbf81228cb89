"""A Mosquitto with a directory of its own: that of Debian's package, or another one that MARTLET_MOSQUITTO names."""

import os
import tempfile

from programs import need
from server_process import DEADLINE_SECS, ServerProcess, free_port


class Mosquitto(ServerProcess):
    """A server. It keeps its port, and what it has saved, over `kill` and `start`."""

    def __init__(self, config="", listener="", files=()):
        self.place = tempfile.mkdtemp(prefix="martlet-mosquitto-")
        # It gives up its rights where root starts it, and has to write there.
        os.chmod(self.place, 0o777)
        self.port = free_port()
        for name, text in dict(files).items():
            with open(os.path.join(self.place, name), "w", encoding="utf-8") as file:
                file.write(text)
        self.config = os.path.join(self.place, "mosquitto.conf")
        with open(self.config, "w", encoding="utf-8") as file:
            file.write(
                f"listener {self.port} 127.0.0.1\n{listener.replace('{place}', self.place)}\nallow_anonymous true\n"
                f"persistence true\npersistence_location {self.place}/\nautosave_on_changes true\n"
                f"autosave_interval 1\nmax_queued_messages 0\n" + config.replace("{place}", self.place) + "\n")
        self.command = [os.environ.get("MARTLET_MOSQUITTO") or need("mosquitto", "mosquitto"), "-v", "-c", self.config]
        self.start()

    def stop(self):
        """It saves what it has; a kill may lose what was acknowledged last."""
        self.process.terminate()
        self.process.wait(DEADLINE_SECS)
