/* host_status.h - what an errno means as a status code. */
#ifndef HOST_STATUS_H
#define HOST_STATUS_H

/* The status for a positive errno met while opening or making something; never MSHM_OK. Pure. */
int host_status(int error);

#endif
