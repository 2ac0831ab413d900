"""Makes a worker of a test fail: on PYTHONPATH, and BNSGCN_TEST_FAULT says how.

RANK:EPOCH:HOW, with HOW one of raise, kill, stop, exit, sleep, mistake; a worker that torchrun
started again does not fail.
"""

import os
import sys

fault = os.environ.get("BNSGCN_TEST_FAULT", "")
if fault and os.environ.get("RANK") and os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") == "0":
    rank, epoch, how = fault.split(":")
    if os.environ["RANK"] == rank:
        import signal
        import time

        from bnsgcn.train.trainer import Trainer
        from partition.errors import UserError

        real = Trainer.train_epoch

        def failing(trainer):
            if trainer.progress.epoch == int(epoch):
                if how == "raise":
                    raise ArithmeticError("seven is not eight")
                if how == "mistake":
                    raise UserError("--seven is 7, must be 8")
                if how == "kill":
                    os.kill(os.getpid(), signal.SIGKILL)
                if how == "stop":
                    os.kill(os.getpid(), signal.SIGSTOP)
                if how == "exit":
                    os._exit(3)
                time.sleep(600)
            return real(trainer)

        Trainer.train_epoch = failing
        sys.stdout.flush()
