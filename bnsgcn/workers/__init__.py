"""The worker processes of one machine: started, watched, ended in every case, and what became of them."""
